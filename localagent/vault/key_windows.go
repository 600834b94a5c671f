package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// DPAPIKey is FileKey with the key sealed by the system for this machine (CryptProtectData with CRYPTPROTECT_LOCAL_MACHINE,
// learn.microsoft.com/windows/win32/api/dpapi/nf-dpapi-cryptprotectdata): a copy of the file is worth nothing elsewhere.
// Any program of this machine that may read the file can open it, so its folder is made for system and administrators alone.
func DPAPIKey(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		key, err := readDPAPI(path)
		if errors.Is(err, fs.ErrNotExist) {
			if err := makeDPAPI(path); err != nil && !errors.Is(err, files.ErrExists) {
				return nil, fmt.Errorf("make the key of the quarantine: %w", err)
			}
			key, err = readDPAPI(path)
		}
		if err != nil {
			return nil, fmt.Errorf("key of the quarantine: %w", err)
		}
		return key, nil
	}
}

func makeDPAPI(path string) error {
	if err := makePrivate(filepath.Dir(path)); err != nil {
		return err
	}
	fresh := make([]byte, keySize)
	_, _ = rand.Read(fresh)
	in := blobOf(fresh)
	var out windows.DataBlob
	const quietForMachine = windows.CRYPTPROTECT_LOCAL_MACHINE | windows.CRYPTPROTECT_UI_FORBIDDEN
	if err := windows.CryptProtectData(&in, nil, nil, 0, nil, quietForMachine, &out); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return makeKey(path, taken(out))
}

func readDPAPI(path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	// Anybody can seal a key of his own for this machine.
	if err := files.CheckOpen(f); err != nil {
		return nil, err
	}
	buf := make([]byte, maxKeyFile)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n == 0 || n == len(buf) {
		return nil, fmt.Errorf("%q has %d bytes, which no sealed key has", path, n)
	}
	in := blobOf(buf[:n])
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(&in, nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("open %q, which was sealed on another machine or damaged: %w", path, err)
	}
	key := taken(out)
	if len(key) != keySize {
		return nil, fmt.Errorf("%q holds %d bytes, a key has %d", path, len(key), keySize)
	}
	return key, nil
}

func blobOf(b []byte) windows.DataBlob {
	return windows.DataBlob{Size: uint32(len(b)), Data: &b[0]} //nolint:gosec // at most 4 KiB
}

// taken copies what the system allocated and frees it.
func taken(b windows.DataBlob) []byte {
	defer func() { _, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(b.Data))) }()
	return append([]byte(nil), unsafe.Slice(b.Data, b.Size)...)
}
