package secrets

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const canary = "canary-7f3a-hunter2"

func fileStore(t *testing.T, change func(*Config)) *Store {
	t.Helper()
	dir := t.TempDir()
	phrase := filepath.Join(dir, "passphrase")
	write(t, phrase, "correct horse\n", 0o600)
	cfg := Config{Backend: File, Dir: filepath.Join(dir, "secrets"), PassphraseFile: phrase}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *Store, ref Ref) string {
	t.Helper()
	v, err := s.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return string(v.Reveal())
}

func wantErr(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want kind %v", err, kind)
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("%T is not *Error: no exit code 77", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "correct horse") {
		t.Errorf("secret in the error: %q", err)
	}
}

func TestFileBackEndKeepsListsAndDeletes(t *testing.T) {
	t.Parallel()
	s := fileStore(t, nil)
	ctx := t.Context()
	_, err := s.Get(ctx, "ksc/password")
	wantErr(t, err, ErrNotFound, "edr-bridge secrets set ksc/password")
	if _, err := os.Stat(s.cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a read made the directory: %v", err)
	}
	value := NewSecret([]byte(canary + "\x00\xff"))
	for _, ref := range []Ref{"ksc/password", "redis"} {
		if err := s.Set(ctx, ref, value); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, s, "ksc/password"); got != canary+"\x00\xff" {
		t.Errorf("got %q", got)
	}
	if where, err := s.Where(ctx, "redis"); where != "file" || err != nil {
		t.Errorf("where: %q, %v", where, err)
	}
	if backend, err := s.Test(ctx); backend != File || err != nil {
		t.Errorf("test: %q, %v", backend, err)
	}
	refs, err := s.List(ctx)
	if diff := cmp.Diff([]Ref{"ksc/password", "redis"}, refs); diff != "" || err != nil {
		t.Error(diff, err)
	}
	info, err := os.Stat(filepath.Join(s.cfg.Dir, "ksc%2Fpassword"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v %v", info.Mode(), err)
	}
	if info, err := os.Stat(s.cfg.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.Mode(), err)
	}
	if err := s.Delete(ctx, "ksc/password"); err != nil {
		t.Error(err)
	}
	wantErr(t, s.Delete(ctx, "ksc/password"), ErrNotFound)
	entries, err := os.ReadDir(s.cfg.Dir)
	if len(entries) != 1 || err != nil {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestFileBackEndSurvivesRotationWhileRead(t *testing.T) {
	t.Parallel()
	reads := 200 // a read derives a key: 2 ms, and 20 ms under the race detector
	if os.Getenv("EDR_BRIDGE_TEST_LONG") != "" {
		reads = 10_000
	}
	s := fileStore(t, nil)
	values := [2]string{strings.Repeat("a", 40), strings.Repeat("b", 4000)}
	if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte(values[0]))); err != nil {
		t.Fatal(err)
	}
	writer, err := Open(s.cfg) // another process would be another store
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var writes int
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; !stop.Load(); writes++ {
			if err := writer.Set(t.Context(), "ksc/password", NewSecret([]byte(values[writes%2]))); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	failed := 0
	for range reads {
		v, err := s.Get(t.Context(), "ksc/password")
		if got := string(v.Reveal()); err != nil || got != values[0] && got != values[1] {
			failed++
			t.Logf("%d bytes, %v", len(got), err)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d reads, %d failed, %d writes beside them", reads, failed, writes)
	if failed > 0 || writes < 2 {
		t.Errorf("%d of %d reads failed beside %d writes", failed, reads, writes)
	}
}

func TestReadIsRepeatedWhileAnotherProgramReplacesTheFile(t *testing.T) {
	t.Parallel()
	s := fileStore(t, nil)
	if err := s.Set(t.Context(), "a", NewSecret([]byte(canary))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.cfg.Dir, "a")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "", 0o600)
	waits := 0
	s.wait = func(context.Context, time.Duration) error {
		if waits++; waits == 3 {
			write(t, path, string(whole), 0o600)
		}
		return nil
	}
	if got := get(t, s, "a"); got != canary || waits != 3 {
		t.Errorf("got %q after %d waits", got, waits)
	}
}

func TestF38WrongPassphraseAndDamageAreLocked(t *testing.T) {
	t.Parallel()
	s := fileStore(t, nil)
	if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte(canary))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.cfg.Dir, "ksc%2Fpassword")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, len(whole) / 3, len(whole) / 2, len(whole) - 30, len(whole) - 1} {
		write(t, path, string(whole[:n]), 0o600)
		_, err := s.Get(t.Context(), "ksc/password")
		wantErr(t, err, ErrLocked, "file", "ksc/password")
	}
	write(t, path, string(whole), 0o600)

	write(t, s.cfg.PassphraseFile, "wrong", 0o600)
	other, err := Open(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Get(t.Context(), "ksc/password")
	wantErr(t, err, ErrLocked, "wrong passphrase", "secrets.passphrase_file", "file")
	wantErr(t, other.Set(t.Context(), "redis", NewSecret([]byte(canary))), ErrLocked, "wrong passphrase")
	write(t, s.cfg.PassphraseFile, "correct horse\r\n", 0o600)
	if got := get(t, other, "ksc/password"); got != canary {
		t.Errorf("the corrected passphrase is not read: %q", got)
	}
}

func TestPassphraseFileMustBePrivateAndNotEmpty(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"group":  {"x", 0o640, "mode 0640"},
		"others": {"x", 0o604, "mode 0604"},
		"empty":  {"\n", 0o600, "empty"},
		"large":  {strings.Repeat("x", maxSecret+1), 0o600, "larger than"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fileStore(t, nil)
			write(t, s.cfg.PassphraseFile, c.text, c.mode)
			wantErr(t, s.Set(t.Context(), "a", NewSecret([]byte(canary))), ErrLocked, c.want)
		})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		s := fileStore(t, func(c *Config) { c.PassphraseFile += "x" })
		wantErr(t, s.Set(t.Context(), "a", NewSecret([]byte(canary))), ErrLocked, "passphrasex")
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := fileStore(t, func(c *Config) { c.PassphraseFile = "" })
		wantErr(t, s.Set(t.Context(), "a", NewSecret([]byte(canary))), ErrLocked, "secrets.passphrase_file")
	})
	t.Run("asked for", func(t *testing.T) {
		t.Parallel()
		asked := 0
		s := fileStore(t, func(c *Config) {
			c.PassphraseFile = ""
			c.Passphrase = func(context.Context) ([]byte, error) { asked++; return []byte("typed"), nil }
		})
		if err := s.Set(t.Context(), "a", NewSecret([]byte(canary))); err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "a"); got != canary || asked != 1 {
			t.Errorf("got %q, asked %d times", got, asked)
		}
	})
}

func TestDirectoryOpenToOthersIsRefused(t *testing.T) {
	t.Parallel()
	s := fileStore(t, nil)
	if err := s.Set(t.Context(), "a", NewSecret([]byte(canary))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.cfg.Dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "a")
	wantErr(t, err, ErrLocked, "mode 0750", "0700")
	_, err = s.List(t.Context())
	wantErr(t, err, ErrLocked, "mode 0750")
	wantErr(t, s.Delete(t.Context(), "a"), ErrLocked, "mode 0750")
}

func TestRestsOfCrashedWritesAreSweptAfterAnHour(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := fileStore(t, func(c *Config) { c.Now = func() time.Time { return now } })
	rest := filepath.Join(s.cfg.Dir, newPrefix+"123")
	if err := os.MkdirAll(rest, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		kept  bool
	}{{0, true}, {2 * time.Hour, false}} {
		now = now.Add(c.after)
		if err := s.Set(t.Context(), "a", NewSecret([]byte(canary))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(rest); (err == nil) != c.kept {
			t.Errorf("after %v: %v", c.after, err)
		}
	}
}

func TestSystemdCredentialOutranksTheBackEnd(t *testing.T) {
	t.Parallel()
	creds := t.TempDir()
	var log bytes.Buffer
	s := fileStore(t, func(c *Config) {
		c.CredentialsDirectory, c.PassphraseFile = creds, ""
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	write(t, filepath.Join(creds, passphraseCredential), "correct horse\n", 0o400)
	if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte("from the file"))); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "ksc/password"); got != "from the file" {
		t.Errorf("got %q", got)
	}
	path := filepath.Join(creds, "ksc-password")
	write(t, path, canary+"\n", 0o440)
	if got := get(t, s, "ksc/password"); got != canary {
		t.Errorf("got %q", got)
	}
	if where, err := s.Where(t.Context(), "ksc/password"); where != "credential" || err != nil {
		t.Errorf("where: %q %v", where, err)
	}
	if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte("other"))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "outranks") || strings.Contains(log.String(), canary) {
		t.Errorf("log: %s", log.String())
	}
	write(t, path, canary, 0o444)
	_, err := s.Get(t.Context(), "ksc/password")
	wantErr(t, err, ErrLocked, "mode 0444", "ksc-password")
	write(t, path, "\n", 0o400)
	_, err = s.Get(t.Context(), "ksc/password")
	wantErr(t, err, ErrLocked, "empty")
}

func TestWithoutBackEndOnlyCredentialsAnswer(t *testing.T) {
	t.Parallel()
	creds := t.TempDir()
	s, err := Open(Config{CredentialsDirectory: creds})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(creds, "redis"), canary, 0o400)
	if got := get(t, s, "redis"); got != canary {
		t.Errorf("got %q", got)
	}
	_, err = s.Get(t.Context(), "ksc/password")
	wantErr(t, err, ErrNotFound, "LoadCredentialEncrypted=ksc-password", "secrets.backend")
	wantErr(t, s.Set(t.Context(), "redis", NewSecret([]byte("x"))), ErrBackend, "secrets.backend")
	_, err = s.List(t.Context())
	wantErr(t, err, ErrBackend)
	_, err = s.Test(t.Context())
	wantErr(t, err, ErrBackend)
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		cfg  Config
		want string
	}{
		"relative dir":     {Config{Backend: File, Dir: "secrets"}, "secrets.dir"},
		"unknown back-end": {Config{Backend: "vault"}, `unknown back-end "vault"`},
		"unknown scope":    {Config{Backend: Keyctl, KeyctlScope: "thread"}, `unknown scope "thread"`},
		"deadline":         {Config{Deadline: -1}, "secrets.deadline"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSetRefusesEmptyLargeAndBadlyNamedSecrets(t *testing.T) {
	t.Parallel()
	s := fileStore(t, nil)
	for name, v := range map[string]string{"empty": "", "large": strings.Repeat("x", maxSecret+1)} {
		if err := s.Set(t.Context(), "a", NewSecret([]byte(v))); !errors.Is(err, ErrBackend) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range []Ref{"", "..", "../passphrase", "a/../b", "/etc/passwd", "A", ".new-1"} {
		if err := s.Set(t.Context(), ref, NewSecret([]byte("x"))); !errors.Is(err, ErrNotFound) {
			t.Errorf("set %q: %v", ref, err)
		}
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %q: %v", ref, err)
		}
	}
}
