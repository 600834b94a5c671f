package secrets

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	credentialName       = "credential"
	passphraseCredential = "secrets-passphrase"
)

// credential reads a file of the systemd credential directory (systemd.exec(5), LoadCredential=); ok is false when
// there is no such credential. One line end at the end is not part of the value.
func (s *Store) credential(name string) (value Secret, ok bool, err error) {
	if s.cfg.CredentialsDirectory == "" {
		return Secret{}, false, nil
	}
	data, err := readPrivate(filepath.Join(s.cfg.CredentialsDirectory, name), othersMay)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, false, nil
	}
	if err == nil && len(data) == 0 {
		err = finding("it is empty")
	}
	if err != nil {
		return Secret{}, false, &Error{
			Op: "read " + name, Backend: credentialName, Kind: ErrLocked, Detail: detail(err), Cause: systemCause(err),
			Advice: "check the credential in the service's unit",
		}
	}
	return NewSecret(data), true, nil
}

// phrase returns the passphrase of the file back-end and keeps it for later calls. The caller must not change it.
func (s *Store) phrase(ctx context.Context) ([]byte, error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return nil, &Error{Kind: ErrBackend, Cause: context.Cause(ctx)}
	}
	if !s.passphrase.Empty() {
		return s.passphrase.Reveal(), nil
	}
	value, err := s.findPhrase(ctx)
	if err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, &Error{Kind: ErrLocked, Detail: "the passphrase is empty", Advice: s.advice(ErrLocked)}
	}
	s.passphrase = NewSecret(value)
	return value, nil
}

func (s *Store) findPhrase(ctx context.Context) ([]byte, error) {
	value, ok, err := s.credential(passphraseCredential)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return value.Reveal(), nil
	case s.cfg.PassphraseFile != "":
		data, err := readPrivate(s.cfg.PassphraseFile, groupOrOthersMay)
		if err != nil {
			return nil, &Error{
				Kind: ErrLocked, Detail: "passphrase file " + s.cfg.PassphraseFile + ": " + detail(err), Cause: systemCause(err),
				Advice: "it must be a regular file of this account with mode 0600",
			}
		}
		return data, nil
	case s.cfg.Passphrase != nil:
		data, err := s.cfg.Passphrase(ctx)
		if err != nil {
			return nil, &Error{Kind: ErrLocked, Detail: "no passphrase was given", Cause: context.Cause(ctx)}
		}
		return data, nil
	default:
		return nil, &Error{
			Kind: ErrLocked, Detail: "there is no passphrase",
			Advice: "set secrets.passphrase_file, or give the service the credential " + passphraseCredential,
		}
	}
}

// forget drops a passphrase that opened nothing, so that the next call reads a corrected one. It is not overwritten:
// a call that missed its deadline may still use it.
func (s *Store) forget(ctx context.Context) {
	select {
	case s.lock <- struct{}{}:
		s.passphrase = Secret{}
		<-s.lock
	case <-ctx.Done():
	}
}

// readPrivate reads a small regular file that nobody else may read, without its last line end.
func readPrivate(path string, forbidden fs.FileMode) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, finding("it is not a regular file")
	}
	f, err := os.Open(path) //nolint:gosec // a file of the settings or of systemd
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkAccess(info, forbidden); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+3))
	if err != nil {
		clear(data)
		return nil, err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) > maxSecret {
		clear(data)
		return nil, finding("it is larger than 16 KiB")
	}
	return data, nil
}

// finding is what was wrong with a file, in words of this package.
type finding string

func (f finding) Error() string { return string(f) }

func detail(err error) string {
	if f, ok := errors.AsType[finding](err); ok {
		return string(f)
	}
	return "it cannot be read"
}

func systemCause(err error) error {
	if _, ok := errors.AsType[finding](err); ok {
		return nil
	}
	return err
}
