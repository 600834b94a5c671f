package localagent

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func digestsOf(t *testing.T, name string) (md5Hex, sha256Hex string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m, s := md5.Sum(b), sha256.Sum256(b)
	return hex.EncodeToString(m[:]), hex.EncodeToString(s[:])
}

// done executes the order and wants it done with a detail that holds text.
func done(t *testing.T, a *Agent, o bridge.Order, text string) {
	t.Helper()
	r, err := a.Execute(t.Context(), o)
	if err != nil {
		t.Fatalf("execute: %v", err)
	}
	if r.State != bridge.StateDone || !contains(r.Detail, text) {
		t.Fatalf("receipt = %q %q, want done with %q", r.State, r.Detail, text)
	}
}

func TestTerminateByCriteriaEndsExactlyTheMatches(t *testing.T) {
	t.Parallel()
	image := agenttest.Program(t, "sleep", "Victim")
	other := agenttest.Program(t, "sleep", "bystander")
	md5Hex, sha256Hex := digestsOf(t, image)
	_, otherSHA := digestsOf(t, other)
	for name, c := range map[string]struct {
		task bridge.TerminateProcess
		ends bool
	}{
		"path":                          {bridge.TerminateProcess{Path: image, CaseSensitive: true}, true},
		"path in another case":          {bridge.TerminateProcess{Path: strings.ToUpper(image)}, true},
		"path in another exact case":    {bridge.TerminateProcess{Path: strings.ToUpper(image), CaseSensitive: true}, false},
		"path that is a prefix":         {bridge.TerminateProcess{Path: image[:len(image)-1], CaseSensitive: true}, false},
		"folder":                        {bridge.TerminateProcess{Path: filepath.Dir(image)}, false},
		"sha256":                        {bridge.TerminateProcess{SHA256: sha256Hex}, true},
		"md5 in capitals":               {bridge.TerminateProcess{MD5: strings.ToUpper(md5Hex)}, true},
		"path and both digests":         {bridge.TerminateProcess{Path: image, MD5: md5Hex, SHA256: sha256Hex}, true},
		"path with another's digest":    {bridge.TerminateProcess{Path: image, SHA256: otherSHA}, false},
		"digests of two different ones": {bridge.TerminateProcess{MD5: md5Hex, SHA256: otherSHA}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			v, w, innocent := sleeper(t, image), sleeper(t, image), start(t, exec.Command(mustLook(t, "sleep"), "3600"))
			if c.ends {
				done(t, a, order(c.task), "ended pid ")
			} else {
				done(t, a, order(c.task), "no process matched")
			}
			if v.dead() != c.ends || w.dead() != c.ends {
				t.Errorf("victims dead = %v, %v, want %v", v.dead(), w.dead(), c.ends)
			}
			if innocent.dead() {
				t.Error("a process that did not match was ended")
			}
			done(t, a, order(c.task), "no process matched")
		})
	}
}

func mustLook(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("this test needs the program %s", name)
	}
	return p
}

func TestTerminateTakesShellWordsInPathsLiterally(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, name := range []string{"a b;$(reboot) `x` & calc", "%0a'\"{{.}}", "-rf", "ends with (deleted)"} {
		image := agenttest.Program(t, "sleep", name)
		v, bystander := sleeper(t, image), sleeper(t, agenttest.Program(t, "sleep", "bystander"))
		done(t, a, order(bridge.TerminateProcess{Path: image, CaseSensitive: true}), "ended pid "+itoa(v.pid))
		if !v.dead() || bystander.dead() {
			t.Errorf("%q: dead = %v, bystander dead = %v", name, v.dead(), bystander.dead())
		}
	}
}

func TestTerminateFindsAnImageThatWasDeleted(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	image := agenttest.Program(t, "sleep", "gone")
	_, sum := digestsOf(t, image)
	byPath, bySum := sleeper(t, image), sleeper(t, image)
	o := about(t, a, byPath)
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	done(t, a, o, "ended pid ")
	if !byPath.dead() || bySum.dead() {
		t.Fatalf("dead = %v, %v, want only the subject", byPath.dead(), bySum.dead())
	}
	done(t, a, order(bridge.TerminateProcess{Path: image, SHA256: sum}), "ended pid ")
	if !bySum.dead() {
		t.Error("the process with the deleted image lives")
	}
}

func TestTerminateTakesTheRunningImageNotTheFileThatReplacedIt(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	image := agenttest.Program(t, "sleep", "replaced")
	_, oldSum := digestsOf(t, image)
	v := sleeper(t, image)
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	agenttest.CopyProgram(t, mustLook(t, "sleep"), image)
	_, newSum := digestsOf(t, image)
	done(t, a, order(bridge.TerminateProcess{Path: image, SHA256: newSum}), "no process matched")
	if v.dead() {
		t.Fatal("the process was ended for the digest of another file")
	}
	done(t, a, order(bridge.TerminateProcess{Path: image, SHA256: oldSum}), "ended pid ")
}

func TestTerminateFindsScriptsByTheirPath(t *testing.T) {
	t.Parallel()
	dash := agenttest.Program(t, "dash", "dash")
	dir := t.TempDir()
	script := filepath.Join(dir, "evil.sh")
	body := []byte("while :; do read x < /dev/zero; done\n# " + dir + "\n")
	if err := os.WriteFile(script, body, 0o644); err != nil {
		t.Fatal(err)
	}
	_, sum := digestsOf(t, script)
	_, dashSum := digestsOf(t, dash)
	for name, c := range map[string]struct {
		args []string
		task bridge.TerminateProcess
		ends bool
	}{
		"absolute":                        {[]string{script}, bridge.TerminateProcess{Path: script}, true},
		"relative with options":           {[]string{"-e", "-u", "evil.sh", "x"}, bridge.TerminateProcess{Path: script}, true},
		"by the digest of the script":     {[]string{script}, bridge.TerminateProcess{SHA256: sum}, true},
		"path and digest":                 {[]string{script}, bridge.TerminateProcess{Path: script, SHA256: sum}, true},
		"path with the shell's digest":    {[]string{script}, bridge.TerminateProcess{Path: script, SHA256: dashSum}, false},
		"name only passed as text":        {[]string{"-c", string(body), script}, bridge.TerminateProcess{Path: script}, false},
		"name only passed as an argument": {[]string{"./other.sh", script}, bridge.TerminateProcess{Path: script}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			if err := os.WriteFile(filepath.Join(dir, "other.sh"), body[:len(body)-2], 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(dash, c.args...)
			cmd.Dir = dir
			v := start(t, cmd)
			want := "no process matched"
			if c.ends {
				want = "ended pid "
			}
			done(t, a, order(c.task), want)
			if v.dead() != c.ends {
				t.Errorf("dead = %v, want %v", v.dead(), c.ends)
			}
		})
	}
}

func TestF42TerminateEndsProcessesThatIgnoreSIGTERM(t *testing.T) {
	t.Parallel()
	for name, grace := range map[string]time.Duration{"at once": 0, "after a grace": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, func(c *Config) { c.Grace = grace })
			shell := agenttest.Program(t, "dash", "stubborn")
			var vs []*victim
			for range 5 {
				vs = append(vs, ignoresTerm(t, shell))
			}
			begin := time.Now()
			done(t, a, order(bridge.TerminateProcess{Path: shell}), "ended pid ")
			if took := time.Since(begin); took < grace || took > grace+2*time.Second {
				t.Errorf("took %s, want the grace of %s once for all five", took, grace)
			}
			for _, v := range vs {
				if !v.dead() {
					t.Errorf("process %d lives", v.pid)
				}
			}
		})
	}
}

func TestTerminateWithGraceLetsObedientProcessesEndByThemselves(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Grace = 10 * time.Second })
	v := sleeper(t, agenttest.Program(t, "sleep", "obedient"))
	done(t, a, about(t, a, v), "ended pid ")
	_ = v.cmd.Wait()
	if st, ok := v.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGTERM {
		t.Errorf("ended by %v, want SIGTERM", v.cmd.ProcessState)
	}
}

func TestTerminateEndsAStoppedProcess(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Grace = 30 * time.Millisecond })
	v := sleeper(t, agenttest.Program(t, "sleep", "stopped"))
	o := about(t, a, v)
	if err := unix.Kill(v.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	done(t, a, o, "ended pid ")
	if !v.dead() {
		t.Error("the stopped process lives")
	}
}

func TestTerminateSaysAlreadyGone(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	v := sleeper(t, agenttest.Program(t, "sleep", "short"))
	o := about(t, a, v)
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the child is a zombie", v.dead)
	done(t, a, o, "already gone: pid ")
	done(t, a, o, "a zombie, because its parent, process "+itoa(os.Getpid()))
	_ = v.cmd.Wait()
	done(t, a, o, "already gone: pid ")
	r, err := a.Execute(t.Context(), o)
	if err != nil || contains(r.Detail, "zombie") {
		t.Errorf("receipt = %+v, %v for a process nobody knows any more", r, err)
	}
}

func TestTerminateFindsAProcessWhoseFirstThreadHasEnded(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image := agenttest.CopyProgram(t, self, filepath.Join(t.TempDir(), "headless"))
	cmd := exec.Command(image)
	cmd.Env = append(os.Environ(), helperEnv+"=first-thread-exits")
	v := start(t, cmd)
	agenttest.Eventually(t, "the first thread has ended", func() bool {
		b, err := os.ReadFile("/proc/" + itoa(v.pid) + "/stat")
		return err == nil && contains(string(b), ") Z ")
	})
	if _, err := os.Readlink("/proc/" + itoa(v.pid) + "/exe"); err == nil {
		t.Fatal("the exe link of the process can still be read: the test proves nothing")
	}
	done(t, newAgent(t), order(bridge.TerminateProcess{Path: image}), "ended pid ")
	if !v.dead() {
		t.Error("the process lives")
	}
}

func TestTerminateRefusesAProcessThatRunsAnotherImageByNow(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	shell, other := agenttest.Program(t, "dash", "before"), agenttest.Program(t, "sleep", "after")
	cmd := exec.Command(shell, "-c", `read x; exec "$0" 3600`, other)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	v := start(t, cmd)
	agenttest.Eventually(t, "the shell runs", func() bool { l, _ := os.Readlink("/proc/" + itoa(v.pid) + "/exe"); return l == shell })
	o := about(t, a, v)
	p, err := pin(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "the child has called exec", func() bool { l, _ := os.Readlink("/proc/" + itoa(v.pid) + "/exe"); return l == other })
	if err := p.signal(sigKill); !errors.Is(err, errChanged) {
		t.Errorf("signal to the pinned process = %v, want errChanged", err)
	}
	_, err = a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProcessChanged, "runs "+other)
	if v.dead() {
		t.Error("the process was ended for the image it does not run any more")
	}
}

func TestTerminateRefusesOrdersWhoseDigestDoesNotFitTheSubject(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	v := sleeper(t, agenttest.Program(t, "sleep", "mismatch"))
	o := about(t, a, v)
	o.Task = bridge.TerminateProcess{SHA256: strings.Repeat("ab", 32)}
	_, err := a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonProcessChanged, "does not fulfil")
	o.Task = bridge.TerminateProcess{SHA256: emptySHA256}
	_, err = a.Execute(t.Context(), o)
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "empty file")
	if v.dead() {
		t.Error("the process was ended")
	}
}

func TestI3TerminateRefusesNumbersThatAreNoProcess(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for name, pid := range map[string]int{"beyond pid_max": maxPID - 1, "beyond every pid_max": maxPID + 1, "far beyond": 1 << 40} {
		o := order(bridge.TerminateProcess{})
		o.Subject = bridge.Process{PID: pid, Start: 5, Path: "/x"}
		_, err := a.Execute(t.Context(), o)
		if name == "beyond pid_max" && err == nil {
			continue // this machine gives such numbers away
		}
		wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "is no process id")
	}
}

func TestTerminateRefusesMoreTargetsThanAllowed(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.MaxTargets = 2 })
	image := agenttest.Program(t, "sleep", "many")
	vs := []*victim{sleeper(t, image), sleeper(t, image), sleeper(t, image)}
	_, err := a.Execute(t.Context(), order(bridge.TerminateProcess{Path: image}))
	wantError(t, err, bridge.Permanent, bridge.ReasonInvalid, "3 processes match, one order may end 2")
	for _, v := range vs {
		if v.dead() {
			t.Errorf("process %d was ended", v.pid)
		}
	}
}

func TestDryRunEndsNothing(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.DryRun = true })
	image := agenttest.Program(t, "sleep", "spared")
	v := sleeper(t, image)
	for name, c := range map[string]struct {
		order bridge.Order
		want  string
	}{
		"by pid":   {about(t, a, v), "dry run: would have ended pid " + itoa(v.pid) + " (" + image},
		"by path":  {order(bridge.TerminateProcess{Path: image}), "dry run: would have ended pid " + itoa(v.pid) + " (" + image},
		"no match": {order(bridge.TerminateProcess{Path: image + "x"}), "dry run: no process matched"},
		"block":    {order(bridge.BlockAddress{Address: "203.0.113.7"}), "dry run: would have blocked 203.0.113.7 for 10m0s"},
	} {
		r, err := a.Execute(t.Context(), c.order)
		if err != nil || r.State != bridge.StateShadow || !contains(r.Detail, c.want) {
			t.Errorf("%s: receipt = %+v, %v, want shadow with %q", name, r, err, c.want)
		}
	}
	if v.dead() {
		t.Error("a dry run ended the process")
	}
	blocks, err := a.Blocked(t.Context())
	if os.Geteuid() == 0 && err == nil && len(blocks) != 0 {
		t.Errorf("a dry run blocked %v", blocks)
	}
}

func TestAProcessThatBeginsToRunTheImageBetweenTwoLooksIsFound(t *testing.T) {
	t.Parallel()
	image := agenttest.Program(t, "sleep", "wanted")
	cmd := exec.Command("sh", "-c", `read x; exec "$0" 3600`, image)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	v := start(t, cmd)
	c, err := newCriteria(bridge.TerminateProcess{Path: image, CaseSensitive: true})
	if err != nil {
		t.Fatal(err)
	}
	look := func() bool {
		pl, err := newAgent(t).plan(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		defer pl.close()
		return len(pl.targets) == 1 && pl.targets[0].pid == v.pid
	}
	if look() {
		t.Error("it is found before it runs the image")
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, "it runs the image", func() bool { return len(running(t, image)) == 1 })
	if !look() {
		t.Error("it is not found in the second look of the same order")
	}
}

func TestAProgramBelowAPathTheKernelDoesNotTellIsEnded(t *testing.T) {
	t.Parallel()
	part := strings.Repeat("d", 200)
	for _, how := range []string{"by pid and start", "by digest"} {
		program := agenttest.Program(t, "sleep", "deep")
		cmd := exec.Command("/bin/sh", "-c", `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do mkdir "$1"; cd -P "$1"; done; cp "$0" x; exec ./x 3600`, program, part)
		cmd.Dir = t.TempDir()
		v := start(t, cmd)
		agenttest.Eventually(t, "it runs where no path leads", func() bool {
			_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", v.pid))
			return errors.Is(err, unix.ENAMETOOLONG)
		})
		a := newAgent(t)
		o := about(t, a, v)
		if how == "by digest" {
			sum, err := a.ResolveProcess(t.Context(), bridge.Process{PID: v.pid}, true)
			if err != nil {
				t.Fatal(err)
			}
			o = order(bridge.TerminateProcess{SHA256: sum.SHA256})
		}
		if r, err := a.Execute(t.Context(), o); err != nil || !strings.Contains(r.Detail, fmt.Sprintf("ended pid %d", v.pid)) {
			t.Errorf("%s: %+v, %v", how, r, err)
		}
	}
}
