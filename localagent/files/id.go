package files

// ID names a file on this machine for as long as it exists: device and inode number on Linux, volume serial number
// and file index on Windows.
type ID struct {
	Dev, Ino uint64
}
