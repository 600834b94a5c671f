package secrets

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/99designs/keyring"
)

const (
	rereads    = 5                     // times a value that looks half written is read again
	rereadWait = 20 * time.Millisecond // between them
)

// Test stores, reads, compares and deletes a random value and returns the back-end that did so. A systemd credential
// has no part in it. Errors are those of Set, Get and Delete.
func (s *Store) Test(ctx context.Context) (Backend, error) {
	const op = "test"
	raw := make([]byte, 16)
	if _, err := io.ReadFull(s.cfg.Random, raw); err != nil {
		return "", s.fail(op, "", &Error{Kind: ErrBackend, Cause: err})
	}
	value := []byte(hex.EncodeToString(raw))
	ref := Ref("edr-bridge/test-" + string(value[:12]))
	if err := s.check(op, ref); err != nil {
		return "", err
	}
	r, err := s.do(ctx, op, ref, func(ctx context.Context, k opener) (reply, error) {
		if err := s.put(ctx, k, ref, value); err != nil {
			return reply{}, err
		}
		got, err := s.read(ctx, k, ref)
		return reply{data: got}, errors.Join(err, s.remove(k, ref))
	})
	if err != nil {
		return "", err
	}
	if !bytes.Equal(r.data, value) {
		return "", s.fail(op, ref, &Error{Kind: ErrBackend, Detail: "it gave back another value than was stored", Advice: s.advice(ErrBackend)})
	}
	return s.cfg.Backend, nil
}

// read, put, remove and list run in the goroutine of do.
func (s *Store) read(ctx context.Context, k opener, ref Ref) ([]byte, error) {
	if s.cfg.Backend == File {
		if err := checkDir(s.cfg.Dir); err != nil {
			return nil, err
		}
	}
	for try := 1; ; try++ {
		ring, err := k("")
		if err != nil {
			return nil, err
		}
		item, err := ring.Get(string(ref))
		if err == nil {
			return item.Data, nil
		}
		// Other programs that use the same module replace their files in place.
		if !halfWritten(err) || try == rereads {
			return nil, err
		}
		if err := s.wait(ctx, rereadWait); err != nil {
			return nil, err
		}
	}
}

func (s *Store) put(ctx context.Context, k opener, ref Ref, data []byte) error {
	if s.cfg.Backend == File {
		return s.putFile(ctx, k, ref, data)
	}
	ring, err := k("")
	if err != nil {
		return err
	}
	return ring.Set(s.item(ref, data))
}

func (s *Store) item(ref Ref, data []byte) keyring.Item {
	return keyring.Item{Key: string(ref), Data: data, Label: s.cfg.ServiceName + " " + string(ref)}
}

func (s *Store) remove(k opener, ref Ref) error {
	if s.cfg.Backend == File {
		return s.removeFile(ref)
	}
	ring, err := k("")
	if err != nil {
		return err
	}
	// Some back-ends take the removal of a missing key for a success.
	if _, err := ring.Get(string(ref)); errors.Is(err, keyring.ErrKeyNotFound) {
		return err
	}
	return ring.Remove(string(ref))
}

func (s *Store) list(k opener) ([]Ref, error) {
	if s.cfg.Backend == File {
		return s.listFiles()
	}
	ring, err := k("")
	if err != nil {
		return nil, err
	}
	keys, err := ring.Keys()
	if err != nil {
		return nil, err
	}
	refs := make([]Ref, 0, len(keys))
	for _, key := range keys {
		// The login keyring of a desktop also holds what is not ours.
		if ref, err := NewRef(key); err == nil {
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	return refs, nil
}

// explain makes an *Error of what the module or the system said. Only texts known to hold no value get through.
func (s *Store) explain(op string, ref Ref, err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		copied := *own
		return s.fail(op, ref, &copied)
	}
	text := err.Error()
	switch {
	case errors.Is(err, keyring.ErrKeyNotFound), errors.Is(err, fs.ErrNotExist) && s.cfg.Backend == File:
		return s.fail(op, ref, &Error{Kind: ErrNotFound, Advice: "store it with `edr-bridge secrets set " + string(ref) + "`"})
	case errors.Is(err, keyring.ErrNoAvailImpl):
		return s.fail(op, ref, &Error{Kind: ErrBackend, Detail: "it did not open on this machine", Advice: s.advice(ErrBackend)})
	case errors.Is(err, context.Canceled), errors.Is(err, errDeadline), errors.Is(err, context.DeadlineExceeded):
		return s.fail(op, ref, &Error{Kind: ErrBackend, Cause: err})
	case strings.Contains(text, "integrity check failed"):
		return s.fail(op, ref, &Error{Kind: ErrLocked, Detail: "wrong passphrase, or the stored value is damaged", Advice: s.advice(ErrLocked)})
	case strings.Contains(text, "locked object"):
		return s.fail(op, ref, &Error{Kind: ErrLocked, Detail: "the keyring is locked", Advice: s.advice(ErrLocked)})
	}
	var cause error
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		cause = pathErr
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		cause = errno
	}
	if errors.Is(cause, fs.ErrPermission) {
		return s.fail(op, ref, &Error{Kind: ErrLocked, Cause: cause, Advice: s.advice(ErrLocked)})
	}
	if cause != nil {
		return s.fail(op, ref, &Error{Kind: ErrBackend, Cause: cause, Advice: s.advice(ErrBackend)})
	}
	if s.cfg.Backend == File {
		return s.fail(op, ref, &Error{Kind: ErrLocked, Detail: "the stored value is damaged", Advice: setAgain(ref)})
	}
	return s.fail(op, ref, &Error{Kind: ErrBackend, Detail: fmt.Sprintf("it answered with an error (%T)", err), Advice: s.advice(ErrBackend)})
}

// halfWritten reports whether err is what the module says of a file that another process is replacing. It has no
// other sign than its text (jose2go, Decode).
func halfWritten(err error) bool {
	return strings.Contains(err.Error(), "3 or 5 parts")
}

func (s *Store) advice(kind error) string {
	locked := errors.Is(kind, ErrLocked)
	switch s.cfg.Backend {
	case File:
		if locked {
			return "check secrets.passphrase_file, the credential " + passphraseCredential + " and the owner of " + s.cfg.Dir
		}
		return "check " + s.cfg.Dir
	case Keyctl:
		if locked {
			return "the service needs KeyringMode=shared, or secrets.keyctl_scope: session with a loader in ExecStartPre"
		}
		return "the kernel must allow keyctl (containers often do not)"
	case SecretService:
		if locked {
			return "unlock the login keyring of the desktop"
		}
		return "it needs a D-Bus session with a keyring, and EDR_BRIDGE_SECRETS_BACKEND=secret-service in the environment; " +
			"on a server use secrets.backend: file"
	case Pass:
		return "check that pass and gpg-agent work for this account without a prompt"
	case WinCred:
		return "store the secret under the account that runs the service"
	case Keychain:
		return "it needs macOS and a build with cgo"
	case None:
		return ""
	default:
		return ""
	}
}
