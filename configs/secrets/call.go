package secrets

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/99designs/keyring"
)

var errDeadline = errors.New("no answer within the deadline")

// opener opens the back-end, for the file back-end under dir instead of Config.Dir when dir is not empty.
type opener func(dir string) (keyring.Keyring, error)

type reply struct {
	data []byte
	refs []Ref
}

type outcome struct {
	reply
	err error
}

// do runs op, which cannot be interrupted, and gives up waiting for it at the deadline. The goroutine it leaves behind
// then keeps the slot: further calls wait for the slot, not in goroutines of their own, and go on when it frees itself.
func (s *Store) do(ctx context.Context, name string, ref Ref, op func(context.Context, opener) (reply, error)) (reply, error) {
	open, err := s.opener(ctx)
	if err != nil {
		return reply{}, s.explain(name, ref, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Deadline, errDeadline)
	defer cancel()
	select {
	case s.slot <- struct{}{}:
	case <-ctx.Done():
		return reply{}, s.late(ctx, name, ref, "an earlier call still waits for it")
	}
	done := make(chan outcome)
	go func() {
		defer func() { <-s.slot }()
		out := s.run(ctx, open, op)
		select {
		case done <- out:
		case <-ctx.Done():
			clear(out.data)
		}
	}()
	select {
	case out := <-done:
		if out.err != nil {
			err := s.explain(name, ref, out.err)
			if errors.Is(err, ErrLocked) {
				s.forget(ctx)
			}
			return reply{}, err
		}
		return out.reply, nil
	case <-ctx.Done():
		return reply{}, s.late(ctx, name, ref, "a prompt may be open, or its daemon hangs")
	}
}

// run turns a panic of the back-end into an error: its D-Bus part trusts the form of what the bus answers.
func (s *Store) run(ctx context.Context, open opener, op func(context.Context, opener) (reply, error)) (out outcome) {
	defer func() {
		if recover() != nil { // the panic's value may quote what was read
			out = outcome{err: &Error{Kind: ErrBackend, Detail: "the back-end broke off"}}
		}
	}()
	r, err := op(ctx, open)
	return outcome{reply: r, err: err}
}

func (s *Store) late(ctx context.Context, name string, ref Ref, seen string) *Error {
	cause := context.Cause(ctx)
	e := &Error{Kind: ErrBackend, Cause: cause}
	if errors.Is(cause, errDeadline) {
		e.Detail = fmt.Sprintf("%s (%v)", seen, s.cfg.Deadline)
		e.Advice = s.advice(ErrBackend)
	}
	return s.fail(name, ref, e)
}

// opener prepares the configuration of the back-end; only the passphrase of the file back-end needs the world.
func (s *Store) opener(ctx context.Context) (opener, error) {
	cfg := keyring.Config{
		AllowedBackends:         []keyring.BackendType{keyring.BackendType(s.cfg.Backend)},
		ServiceName:             s.cfg.ServiceName,
		KeychainName:            s.cfg.ServiceName,
		LibSecretCollectionName: "login", // another collection makes the desktop ask for its password
		KeyCtlScope:             s.cfg.KeyctlScope,
		PassPrefix:              s.cfg.ServiceName,
		WinCredPrefix:           s.cfg.ServiceName,
		FileDir:                 s.cfg.Dir,
	}
	if s.cfg.KeyctlScope == KeyctlUser {
		// All rights for the possessor and for the uid: a service has a private session keyring and possesses nothing
		// in the keyring of its uid (keyrings(7)). In the session keyring itself the module's way of setting the
		// permission would drop the key, and the default suffices there.
		cfg.KeyCtlPerm = 0x3f3f0000
	}
	if s.cfg.Backend == File {
		phrase, err := s.phrase(ctx)
		if err != nil {
			return nil, err
		}
		cfg.FilePasswordFunc = func(string) (string, error) { return string(phrase), nil }
	}
	return func(dir string) (keyring.Keyring, error) {
		cfg := cfg
		if dir != "" {
			cfg.FileDir = dir
		}
		return s.open(cfg)
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func randReader() io.Reader { return rand.Reader }
