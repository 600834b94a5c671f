package files

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// Key changes whenever the content of a file can have changed, short of a program that sets its times back.
type Key struct {
	volume, high, low, sizeHigh, sizeLow uint32
	written                              windows.Filetime
}

// KeyOf returns the key and the size of the open file and moves it to its beginning.
func KeyOf(f *os.File) (Key, int64, error) {
	var i windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &i); err != nil {
		return Key{}, 0, fmt.Errorf("stat: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Key{}, 0, fmt.Errorf("seek: %w", err)
	}
	return Key{i.VolumeSerialNumber, i.FileIndexHigh, i.FileIndexLow, i.FileSizeHigh, i.FileSizeLow, i.LastWriteTime},
		int64(i.FileSizeHigh)<<32 | int64(i.FileSizeLow), nil
}

// IDOf returns the identity of the file at path; links are followed.
func IDOf(path string) (ID, error) {
	f, err := os.Open(path)
	if err != nil {
		return ID{}, err
	}
	defer func() { _ = f.Close() }()
	st, err := StatOf(f)
	return st.ID, err
}
