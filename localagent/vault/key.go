package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	keySize = 32
	// keyCheck is a file in the vault that tells its key from another without giving it away.
	keyCheck = ".key-check"
	// maxKeyFile bounds what is read: the key, or what the system made of it.
	maxKeyFile = 4 << 10
)

// FileKey returns a Config.Key that reads 32 bytes from the file at path and makes it, random and readable by its owner
// alone, when it is missing. A file that others may read, that belongs to somebody else or has another length is an error. The
// folder must exist and should not be the vault's: whoever copies the one should not get the other.
func FileKey(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		key, err := readKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			fresh := make([]byte, keySize)
			_, _ = rand.Read(fresh)
			if err := makeKey(path, fresh); err != nil && !errors.Is(err, files.ErrExists) {
				return nil, fmt.Errorf("make the key of the quarantine: %w", err)
			}
			// Read back: of two processes that make it at once one wins.
			key, err = readKey(path)
		}
		if err != nil {
			return nil, fmt.Errorf("key of the quarantine: %w", err)
		}
		return key, nil
	}
}

func readKey(path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := checkPrivate(f); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	buf := make([]byte, maxKeyFile+1)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n == len(buf) {
		return nil, fmt.Errorf("%q has more than %d bytes, which no key has", path, maxKeyFile)
	}
	if n != keySize {
		return nil, fmt.Errorf("%q has %d bytes, a key has %d", path, n, keySize)
	}
	return buf[:n], nil
}

func makeKey(path string, content []byte) error {
	d, err := files.NewDraft(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if _, err := d.File.Write(content); err != nil {
		return err
	}
	return d.Commit(filepath.Base(path))
}

// ready makes the folders of the vault, reads the key and compares it with the one the vault was made with.
func (v *Vault) ready(ctx context.Context) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key != nil {
		return v.key, nil
	}
	for _, dir := range []string{v.cfg.Dir, v.pendingDir(), v.stageDir()} {
		if err := makePrivate(dir); err != nil {
			return nil, fmt.Errorf("folder of the quarantine: %w", err)
		}
	}
	key, err := v.cfg.Key(ctx)
	if err != nil {
		return nil, err
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("the key of the quarantine has %d bytes, want %d", len(key), keySize)
	}
	if err := v.checkKey(key); err != nil {
		return nil, err
	}
	v.key = append([]byte(nil), key...)
	return v.key, nil
}

func (v *Vault) checkKey(key []byte) error {
	derived, err := hkdf.Key(sha256.New, key, nil, "edr-bridge quarantine key check 1", keySize)
	if err != nil {
		return err
	}
	path := filepath.Join(v.cfg.Dir, keyCheck)
	for {
		has, err := files.ReadOwn(path, maxKeyFile)
		if errors.Is(err, fs.ErrNotExist) {
			if err := makeKey(path, derived); err != nil && !errors.Is(err, files.ErrExists) {
				return fmt.Errorf("folder of the quarantine: %w", err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("folder of the quarantine: %w", err)
		}
		if !hmac.Equal(has, derived) {
			return ErrKey
		}
		return nil
	}
}

func (v *Vault) pendingDir() string { return filepath.Join(v.cfg.Dir, ".pending") }

func (v *Vault) stageDir() string { return filepath.Join(v.cfg.Dir, ".stage") }

func (v *Vault) itemDir(id string) string { return filepath.Join(v.cfg.Dir, id) }

func (v *Vault) tempDir(id string) string { return filepath.Join(v.cfg.Dir, tempPrefix+id) }

// exists reports whether there is something at the path.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
