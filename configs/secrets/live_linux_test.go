package secrets

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/99designs/keyring"
	"golang.org/x/sys/unix"
)

func TestKeyctlKeepsSecretsInBothScopes(t *testing.T) {
	const inside = "EDR_BRIDGE_TEST_KEYCTL"
	if os.Getenv(inside) == "" {
		// A session keyring belongs to a thread; a process has one for all its threads when it was started with it, as
		// services are. The thread is not unlocked: it ends with this goroutine.
		runtime.LockOSThread()
		if _, err := unix.KeyctlJoinSessionKeyring("edr-bridge-test"); err != nil {
			t.Skipf("the kernel does not allow keyctl here: %v", err)
		}
		if out, err := rerun(t, t.Name(), append(os.Environ(), inside+"=1")...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, scope := range []string{KeyctlUser, KeyctlSession} {
		t.Run(scope, func(t *testing.T) {
			name := "edr-bridge-test-" + scope
			s, err := Open(Config{Backend: Keyctl, KeyctlScope: scope, ServiceName: name})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				parent := unix.KEY_SPEC_USER_KEYRING
				if scope == KeyctlSession {
					parent = unix.KEY_SPEC_SESSION_KEYRING
				}
				if id, err := unix.KeyctlSearch(parent, "keyring", name, 0); err == nil {
					if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, parent, 0, 0); err != nil {
						t.Error(err)
					}
				}
			})
			if backend, err := s.Test(t.Context()); backend != Keyctl || err != nil {
				t.Fatalf("%q %v", backend, err)
			}
			_, err = s.Get(t.Context(), "ksc/password")
			wantErr(t, err, ErrNotFound)
			if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte(canary))); err != nil {
				t.Fatal(err)
			}
			again, err := Open(s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := get(t, again, "ksc/password"); got != canary {
				t.Errorf("got %q", got)
			}
			refs, err := s.List(t.Context())
			if err != nil || len(refs) != 1 || refs[0] != "ksc/password" {
				t.Errorf("%v %v", refs, err)
			}
			if scope == KeyctlUser {
				ring, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "keyring", name, 0)
				if err != nil {
					t.Fatal(err)
				}
				key, err := unix.KeyctlSearch(ring, "user", "ksc/password", 0)
				if err != nil {
					t.Fatal(err)
				}
				if d, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, key); err != nil || !strings.Contains(d, ";3f3f0000;") {
					t.Errorf("permissions: %q %v", d, err)
				}
			}
			if err := s.Delete(t.Context(), "ksc/password"); err != nil {
				t.Error(err)
			}
			wantErr(t, s.Delete(t.Context(), "ksc/password"), ErrNotFound)
		})
	}
}

// rerun starts this test binary again for one test, as the programs that link the package start.
func rerun(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = env
	cmd.WaitDelay = time.Second
	return cmd
}

func TestSecretServiceUnderItsOwnBus(t *testing.T) {
	const inner = "EDR_BRIDGE_TEST_INNER"
	if os.Getenv(inner) != "" {
		s, err := Open(Config{Backend: SecretService})
		if err != nil {
			t.Fatal(err)
		}
		backend, err := s.Test(t.Context())
		for deadline := time.Now().Add(10 * time.Second); errors.Is(err, ErrBackend) && time.Now().Before(deadline); {
			if err := sleep(t.Context(), 50*time.Millisecond); err != nil { // the keyring is still starting
				t.Fatal(err)
			}
			backend, err = s.Test(t.Context())
		}
		if backend != SecretService || err != nil {
			t.Fatalf("%q %v", backend, err)
		}
		_, err = s.Get(t.Context(), "ksc/password")
		wantErr(t, err, ErrNotFound)
		if err := s.Set(t.Context(), "ksc/password", NewSecret([]byte(canary))); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got := get(t, s, "ksc/password"); got != canary {
			t.Errorf("got %q", got)
		}
		t.Logf("a read took %v", time.Since(began))
		refs, err := s.List(t.Context())
		if len(refs) != 1 || refs[0] != "ksc/password" || err != nil {
			t.Errorf("%v %v", refs, err)
		}
		if err := s.Delete(t.Context(), "ksc/password"); err != nil {
			t.Error(err)
		}
		wantErr(t, s.Delete(t.Context(), "ksc/password"), ErrNotFound)
		return
	}
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	home := t.TempDir()
	cmd := rerun(t, t.Name(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "PATH="+os.Getenv("PATH"), inner+"=1", "EDR_BRIDGE_SECRETS_BACKEND=secret-service")
	script := `mkfifo "$HOME/p" && gnome-keyring-daemon --foreground --unlock --components=secrets <"$HOME/p" >/dev/null & daemon=$!
		until [ -p "$HOME/p" ]; do :; done; printf lab >"$HOME/p"; "$@"; code=$?; kill $daemon; exit $code`
	cmd.Args = append([]string{"dbus-run-session", "--", "sh", "-c", script, "sh"}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	path, err := exec.LookPath("dbus-run-session")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = path
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

// The keyring module dials the session bus while the program starts: a bus that hangs would hang every verb.
func TestStartNeitherWaitsForABusNorStartsOne(t *testing.T) {
	const inner = "EDR_BRIDGE_TEST_INNER"
	if os.Getenv(inner) != "" {
		if _, err := Open(Config{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("bus=%q", os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
		for _, b := range keyring.AvailableBackends() {
			if b == keyring.SecretServiceBackend {
				t.Error("the bus was dialled")
			}
		}
		return
	}
	dir := t.TempDir()
	sock := filepath.Join(dir, "bus")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	})
	write(t, filepath.Join(dir, "dbus-launch"), "#!/bin/sh\necho x > "+dir+"/launched\n", 0o755)
	for name, env := range map[string][]string{
		"hanging bus": {"DBUS_SESSION_BUS_ADDRESS=unix:path=" + sock},
		"no bus":      {},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := rerun(t, "TestStartNeitherWaitsForABusNorStartsOne", append(env, "PATH="+dir, inner+"=1")...)
			started := time.Now()
			out, err := cmd.CombinedOutput()
			want := "bus=" + `""`
			if len(env) > 0 {
				want = "bus=" + `"unix:path=` + sock + `"`
			}
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("after %v: %v\n%s", time.Since(started), err, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "launched")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("dbus-launch was run: %v", err)
			}
		})
	}
	t.Run("asked for", func(t *testing.T) {
		cmd := rerun(t, "TestStartNeitherWaitsForABusNorStartsOne", "PATH="+dir, inner+"=1", "EDR_BRIDGE_SECRETS_BACKEND=secret-service")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "launched")); err != nil {
			t.Errorf("the bus is not looked for when it is asked for: %v", err)
		}
	})
}
