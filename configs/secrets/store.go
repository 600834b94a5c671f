package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/99designs/keyring"

	"github.com/edr-bridge/edr-bridge/configs/secrets/nobus"
)

// Backend is where secrets are kept beside systemd credentials.
type Backend string

// The back-ends. None looks at systemd credentials only.
const (
	None          Backend = ""
	File          Backend = "file"           // encrypted files (PBES2-HS256+A128KW, A256GCM) under Dir
	Keyctl        Backend = "keyctl"         // the kernel's keyring; gone after a reboot
	SecretService Backend = "secret-service" // the desktop's keyring over D-Bus
	Pass          Backend = "pass"           // passwordstore.org
	WinCred       Backend = "wincred"        // the Windows Credential Manager of the account that runs the bridge
	Keychain      Backend = "keychain"       // macOS; needs a build with cgo
)

// Backends lists every back-end but None.
func Backends() []Backend { return []Backend{File, Keyctl, SecretService, Pass, WinCred, Keychain} }

const (
	defaultService  = "edr-bridge"
	defaultDeadline = 5 * time.Second
	maxSecret       = 16 << 10 // bytes; the kernel and the Credential Manager take less

	// KeyctlUser as Config.KeyctlScope is the keyring of the account.
	KeyctlUser = "user"
	// KeyctlSession as Config.KeyctlScope is the keyring of the session.
	KeyctlSession = "session"
)

// Config says where secrets are.
type Config struct {
	// Backend is exactly one back-end; None reads systemd credentials only.
	Backend Backend
	// Dir is the absolute path of the directory of File. It is made with mode 0700 by the first Set and
	// refused when others can read it.
	Dir string
	// ServiceName sets the secrets of one installation apart from others; default edr-bridge.
	ServiceName string
	// KeyctlScope is user (default: shared by all processes of the account, lost when it has none) or session
	// (the keyring of a systemd service or login, lost with it).
	KeyctlScope string
	// PassphraseFile holds the passphrase of File in one line; it is refused when others can read it.
	// The systemd credential secrets-passphrase outranks it.
	PassphraseFile string
	// Passphrase asks for the passphrase of File when neither of the above is there; it may wait for a person and
	// is not under Deadline. nil = nobody to ask.
	Passphrase func(ctx context.Context) ([]byte, error)
	// CredentialsDirectory is systemd's $CREDENTIALS_DIRECTORY; empty = none.
	CredentialsDirectory string
	// Deadline is the longest a call waits for a back-end; default 5 s.
	Deadline time.Duration
	// Logger gets warnings; nil = none.
	Logger *slog.Logger
	// Now is the clock, Random the source of test values; nil = the real ones.
	Now    func() time.Time
	Random io.Reader
}

// Store gets and keeps secrets. Its methods may be called by many goroutines at once; calls of the back-end run one
// after the other. Their errors are *Error.
type Store struct {
	cfg Config
	// slot holds one token while the back-end works: a back-end that hangs for ever costs one goroutine, not one a call.
	slot chan struct{}
	// lock guards passphrase; it is a channel so that waiting for it can end with the context.
	lock       chan struct{}
	passphrase Secret
	open       func(keyring.Config) (keyring.Keyring, error)
	wait       func(ctx context.Context, d time.Duration) error
}

// Open checks cfg. It does not touch the back-end: a locked or missing one shows itself in the first call.
func Open(cfg Config) (*Store, error) {
	// The keyring module has looked at the environment by now, so the children of this process get theirs back.
	nobus.Restore()
	var errs []error
	switch cfg.Backend {
	case None, Keyctl, SecretService, Pass, WinCred, Keychain:
	case File:
		if !filepath.IsAbs(cfg.Dir) {
			errs = append(errs, errors.New("secrets.dir: must be an absolute path for the file back-end"))
		}
	default:
		errs = append(errs, fmt.Errorf("secrets.backend: unknown back-end %q: want one of %v", cfg.Backend, Backends()))
	}
	switch cfg.KeyctlScope {
	case "":
		cfg.KeyctlScope = KeyctlUser
	case KeyctlUser, KeyctlSession:
	default:
		errs = append(errs, fmt.Errorf("secrets.keyctl_scope: unknown scope %q: want user or session", cfg.KeyctlScope))
	}
	if cfg.Deadline < 0 {
		errs = append(errs, errors.New("secrets.deadline: must be positive"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = defaultDeadline
	}
	if cfg.ServiceName == "" {
		cfg.ServiceName = defaultService
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = randReader()
	}
	return &Store{
		cfg: cfg, slot: make(chan struct{}, 1), lock: make(chan struct{}, 1),
		open: keyring.Open, wait: sleep,
	}, nil
}

// Get returns the secret: the systemd credential if there is one, else what the back-end holds. ErrNotFound when
// neither has it. It waits at most Deadline for the back-end.
func (s *Store) Get(ctx context.Context, ref Ref) (Secret, error) {
	value, _, err := s.lookup(ctx, ref)
	return value, err
}

// Where returns what answers for the secret: "credential" or the name of the back-end.
func (s *Store) Where(ctx context.Context, ref Ref) (string, error) {
	value, where, err := s.lookup(ctx, ref)
	value.Zero()
	return where, err
}

// Set keeps a copy of value (1 byte to 16 KiB) in the back-end; a file is replaced whole and synced, so that readers
// see the old or the new value. After a missed deadline the value may have been stored.
func (s *Store) Set(ctx context.Context, ref Ref, value Secret) error {
	const op = "set"
	if err := s.check(op, ref); err != nil {
		return err
	}
	if n := len(value.Reveal()); n == 0 || n > maxSecret {
		return s.fail(op, ref, &Error{Kind: ErrBackend, Detail: fmt.Sprintf("a secret has 1 to %d bytes, not %d", maxSecret, n)})
	}
	if hidden, ok, err := s.credential(ref.Credential()); ok || err != nil {
		hidden.Zero()
		s.cfg.Logger.Warn("a systemd credential outranks the stored secret", "ref", ref.String(), "credential", ref.Credential())
	}
	// The back-end may still hold the value when the caller zeroes its secret after a missed deadline.
	data := append([]byte(nil), value.Reveal()...)
	_, err := s.do(ctx, op, ref, func(ctx context.Context, k opener) (reply, error) {
		defer clear(data)
		return reply{}, s.put(ctx, k, ref, data)
	})
	return err
}

// Delete removes the secret from the back-end; ErrNotFound when it is not there. A systemd credential stays.
func (s *Store) Delete(ctx context.Context, ref Ref) error {
	const op = "delete"
	if err := s.check(op, ref); err != nil {
		return err
	}
	_, err := s.do(ctx, op, ref, func(_ context.Context, k opener) (reply, error) { return reply{}, s.remove(k, ref) })
	return err
}

// List returns the references the back-end holds, sorted. Systemd credentials are not listed.
func (s *Store) List(ctx context.Context) ([]Ref, error) {
	if err := s.check("list", ""); err != nil {
		return nil, err
	}
	r, err := s.do(ctx, "list", "", func(_ context.Context, k opener) (reply, error) {
		refs, err := s.list(k)
		return reply{refs: refs}, err
	})
	return r.refs, err
}

func (s *Store) lookup(ctx context.Context, ref Ref) (Secret, string, error) {
	const op = "get"
	if _, err := NewRef(string(ref)); err != nil {
		return Secret{}, "", s.fail(op, "", &Error{Kind: ErrNotFound, Detail: err.Error()})
	}
	value, ok, err := s.credential(ref.Credential())
	if err != nil {
		return Secret{}, credentialName, err
	}
	if ok {
		return value, credentialName, nil
	}
	if s.cfg.Backend == None {
		return Secret{}, "", &Error{
			Op: op, Ref: ref, Kind: ErrNotFound,
			Advice: "set secrets.backend, or give the service LoadCredentialEncrypted=" + ref.Credential(),
		}
	}
	r, err := s.do(ctx, op, ref, func(ctx context.Context, k opener) (reply, error) {
		data, err := s.read(ctx, k, ref)
		return reply{data: data}, err
	})
	if err != nil {
		return Secret{}, string(s.cfg.Backend), err
	}
	if len(r.data) == 0 {
		return Secret{}, string(s.cfg.Backend), s.fail(op, ref, &Error{Kind: ErrLocked, Detail: "the stored value is empty", Advice: setAgain(ref)})
	}
	return NewSecret(r.data), string(s.cfg.Backend), nil
}

func (s *Store) check(op string, ref Ref) error {
	if s.cfg.Backend == None {
		return &Error{Op: op, Ref: ref, Kind: ErrBackend, Detail: "no back-end is set", Advice: "set secrets.backend in the settings"}
	}
	if op == "list" {
		return nil
	}
	if _, err := NewRef(string(ref)); err != nil {
		return s.fail(op, "", &Error{Kind: ErrNotFound, Detail: err.Error()})
	}
	return nil
}

func (s *Store) fail(op string, ref Ref, e *Error) *Error {
	e.Op, e.Ref, e.Backend = op, ref, string(s.cfg.Backend)
	return e
}

func setAgain(ref Ref) string {
	return "store it again with `edr-bridge secrets set " + string(ref) + "`"
}
