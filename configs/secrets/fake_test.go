package secrets

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/99designs/keyring"
)

var _ keyring.Keyring = (*fakeRing)(nil)

// fakeRing is a back-end whose Get blocks until hang is closed.
type fakeRing struct {
	mu    sync.Mutex
	items map[string][]byte
	hang  chan struct{}
	err   error
	bad   bool
	calls int
}

func (f *fakeRing) Get(key string) (keyring.Item, error) {
	f.mu.Lock()
	f.calls++
	hang, err, bad := f.hang, f.err, f.bad
	data, ok := f.items[key]
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if bad {
		body := make([]any, f.calls)
		_ = body[f.calls]
	}
	if err != nil {
		return keyring.Item{}, err
	}
	if !ok {
		return keyring.Item{}, keyring.ErrKeyNotFound
	}
	return keyring.Item{Key: key, Data: append([]byte(nil), data...)}, nil
}

func (f *fakeRing) GetMetadata(string) (keyring.Metadata, error) {
	return keyring.Metadata{}, keyring.ErrMetadataNotSupported
}

func (f *fakeRing) Set(i keyring.Item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.items[i.Key] = append([]byte(nil), i.Data...)
	return nil
}

func (f *fakeRing) Remove(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.items, key)
	return f.err
}

func (f *fakeRing) Keys() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := []string{"Login Password", "../x"}
	for k := range f.items {
		keys = append(keys, k)
	}
	return keys, f.err
}

func fakeStore(t *testing.T, ring *fakeRing) *Store {
	t.Helper()
	s, err := Open(Config{Backend: SecretService})
	if err != nil {
		t.Fatal(err)
	}
	s.open = func(cfg keyring.Config) (keyring.Keyring, error) {
		if len(cfg.AllowedBackends) != 1 || cfg.AllowedBackends[0] != keyring.SecretServiceBackend {
			t.Errorf("allowed back-ends: %v", cfg.AllowedBackends)
		}
		return ring, nil
	}
	return s
}

func TestF37HangingBackEndEndsAtTheDeadlineAndCostsOneGoroutine(t *testing.T) {
	// Not parallel: it counts goroutines.
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		ring := &fakeRing{items: map[string][]byte{"a": []byte(canary)}, hang: hang}
		s := fakeStore(t, ring)
		before := runtime.NumGoroutine()
		for range 50 {
			start := time.Now()
			_, err := s.Get(t.Context(), "a")
			wantErr(t, err, ErrBackend, "5s", "secret-service")
			if took := time.Since(start); took != 5*time.Second {
				t.Fatalf("took %v", took)
			}
		}
		synctest.Wait()
		// The runtime may have begun some of its own; ring.calls says that ours is one.
		if n := runtime.NumGoroutine() - before; n >= 10 {
			t.Errorf("%d goroutines stay behind", n)
		}
		if ring.calls != 1 {
			t.Errorf("the hanging back-end was called %d times", ring.calls)
		}
		ring.mu.Lock()
		ring.hang = nil
		ring.mu.Unlock()
		close(hang)
		synctest.Wait()
		if got := get(t, s, "a"); got != canary {
			t.Errorf("after the hang: %q", got)
		}
	})
}

func TestCancelledCallerDoesNotWaitForTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := fakeStore(t, &fakeRing{hang: hang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Get(ctx, "a")
		wantErr(t, err, ErrBackend)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(hang)
	})
}

func TestBackEndErrorsNeverCarryTheSecret(t *testing.T) {
	t.Parallel()
	ring := &fakeRing{items: map[string][]byte{}, err: fmt.Errorf("dbus: cannot store %q", canary)}
	s := fakeStore(t, ring)
	wantErr(t, s.Set(t.Context(), "a", NewSecret([]byte(canary))), ErrBackend)
	_, err := s.Get(t.Context(), "a")
	wantErr(t, err, ErrBackend)
	_, err = s.List(t.Context())
	wantErr(t, err, ErrBackend)
	ring.err = errors.New("Cannot get secret of a locked object")
	_, err = s.Get(t.Context(), "a")
	wantErr(t, err, ErrLocked, "unlock the login keyring")
}

func TestPanicOfTheBackEndIsAnError(t *testing.T) {
	t.Parallel()
	ring := &fakeRing{items: map[string][]byte{"a": []byte(canary)}, bad: true}
	s := fakeStore(t, ring)
	_, err := s.Get(t.Context(), "a")
	wantErr(t, err, ErrBackend, "broke off")
	ring.bad = false
	if got := get(t, s, "a"); got != canary {
		t.Errorf("got %q", got)
	}
}

func TestBackEndThatDoesNotOpenNamesTheWayOut(t *testing.T) {
	t.Parallel()
	for backend, want := range map[Backend]string{
		SecretService: "EDR_BRIDGE_SECRETS_BACKEND=secret-service", Keychain: "cgo", WinCred: "account that runs the service",
		Pass: "gpg-agent", Keyctl: "kernel",
	} {
		s, err := Open(Config{Backend: backend})
		if err != nil {
			t.Fatal(err)
		}
		s.open = func(keyring.Config) (keyring.Keyring, error) { return nil, keyring.ErrNoAvailImpl }
		_, err = s.Get(t.Context(), "a")
		wantErr(t, err, ErrBackend, want, string(backend))
	}
}

func TestListSkipsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	s := fakeStore(t, &fakeRing{items: map[string][]byte{"ksc/password": nil, "a": nil}})
	refs, err := s.List(t.Context())
	if err != nil || len(refs) != 2 || refs[0] != "a" || refs[1] != "ksc/password" {
		t.Errorf("%v %v", refs, err)
	}
}

func TestDeleteOfAMissingSecretIsNotFound(t *testing.T) {
	t.Parallel()
	s := fakeStore(t, &fakeRing{items: map[string][]byte{}})
	wantErr(t, s.Delete(t.Context(), "a"), ErrNotFound)
}
