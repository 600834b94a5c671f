package main

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The secrets of the scripts. None of them may show in an output, a log or the state directory.
const (
	canaryPassword   = "canary-pw-5Gx81Zq"
	canaryWrong      = "canary-wrong-7Rt02Lm"
	canaryPassphrase = "canary-phrase-3Wd66Pk"
)

func TestMain(m *testing.M) {
	testscript.Main(m, programNames())
}

// TestScripts runs testdata/script/*.txtar. Besides the commands of testscript they have those of commands();
// $WORK is all a script touches: settings, state and credentials are in it, servers listen on free ports.
func TestScripts(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the scripts end processes and read paths as Linux does")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Setup:               setUp,
		Cmds:                commands(),
		Condition:           conditions(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// conditions are what a script may ask for in brackets besides testscript's own: the rights this machine gives.
func conditions() func(string) (bool, error) {
	table := map[string]func() bool{"nobody": sync.OnceValue(mayBeNobody), "mount": sync.OnceValue(mayMount)}
	return func(name string) (bool, error) {
		if ask, known := table[name]; known {
			return ask(), nil
		}
		return false, fmt.Errorf("no condition %q", name)
	}
}

type stageKey struct{}

// setUp prepares the stage of one script: variables that keep the program inside $WORK, a directory of
// credentials as systemd hands them out, and the names of the hosts.
func setUp(env *testscript.Env) error {
	st := &stage{work: env.WorkDir, env: map[string]string{
		"EDR_BRIDGE_CONFIG":      "",
		"EDR_BRIDGE_LOCAL_STATE": filepath.Join(env.WorkDir, "state"),
		"EDR_BRIDGE_SECRETS_DIR": filepath.Join(env.WorkDir, "state", "secrets"),
		"CREDENTIALS_DIRECTORY":  filepath.Join(env.WorkDir, "credentials"),
		"PASSWORD":               canaryPassword,
		"WRONG_PASSWORD":         canaryWrong,
		"PASSPHRASE":             canaryPassphrase,
		"THIS_HOST":              identity().Names[0],
		"WS014":                  hostWS014,
		"ESCAPES":                "C:\\x\x1b[2J\u202e\u2028\r\nerror: \"$(id)\" & calc",
		"GORACE":                 "halt_on_error=1 atexit_sleep_ms=5", // by default each command sleeps a second at its end
	}}
	for name, value := range st.env {
		env.Setenv(name, value)
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		st.env[name] = env.Getenv(name)
	}
	env.Values[stageKey{}] = st
	if err := st.writeSecret("credentials/ksc-password", canaryPassword); err != nil {
		return err
	}
	env.Defer(func() {
		st.strike()
		if err := st.findCanaries(); err != nil {
			env.T().Fatal(err)
		}
	})
	return nil
}

// writeSecret writes a file only its owner may read, in a directory only its owner may read.
func (s *stage) writeSecret(name, value string) error {
	path := filepath.Join(s.work, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(value+"\n"), 0o600)
}

// findCanaries looks for the secrets in everything a script left in $WORK: state, logs and certificates.
func (s *stage) findCanaries() error {
	return filepath.WalkDir(s.work, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && d.Name() == "credentials" {
				return filepath.SkipDir
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if leak := canaryIn(string(data)); leak != "" {
			return fmt.Errorf("%s holds %s", path, leak)
		}
		return nil
	})
}

// canaryIn names the secret that text holds, as it is or in base64, or returns nothing.
func canaryIn(text string) string {
	for name, secret := range map[string]string{"the password": canaryPassword, "the wrong password": canaryWrong, "the passphrase": canaryPassphrase} {
		encoded := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")
		// The last digit depends on what follows the secret.
		if strings.Contains(text, secret) || strings.Contains(text, encoded[:len(encoded)-1]) {
			return name
		}
	}
	return ""
}
