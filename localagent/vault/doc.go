// Package vault is the quarantine: a directory of sealed copies of files with what is needed to put them back.
//
//	<dir>/<uuid>/blob        AES-256-GCM in chunks of 64 KiB under a key of the blob's own
//	<dir>/<uuid>/meta.json   path, digests, mode, owner, times, extended attributes, the order that asked for it
//
// A copy is durable and verified before the original is touched. It knows no task and no store.
package vault
