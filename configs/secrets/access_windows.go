package secrets

import "io/fs"

// checkAccess passes: Windows has no permission bits, access lists are inherited from the directory.
func checkAccess(fs.FileInfo, fs.FileMode) error { return nil }

// syncDir does nothing: NTFS journals a rename by itself, and a directory cannot be flushed.
func syncDir(string) error { return nil }
