// Package files is how the local agent opens, hashes, takes and walks files without being fooled.
//
// Paths come from alerts: no link is followed on the way, the file is pinned by a descriptor (Linux) or a handle (Windows), and
// only the pinned file is read, hashed and acted on. It knows no order and no task.
package files
