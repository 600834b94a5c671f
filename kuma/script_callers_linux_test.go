package kuma

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// TestKumaChild is not a test: it is a process of another user.
func TestKumaChild(t *testing.T) {
	spool, socket := os.Getenv("KUMA_CHILD_SPOOL"), os.Getenv("KUMA_CHILD_SOCKET")
	if spool == "" {
		return
	}
	syscall.Umask(0o077)
	call := newCall(os.Getuid())
	result, err := callout.HandOver(t.Context(), callout.HandOverConfig{Socket: socket, Spool: spool, Budget: 5 * time.Second}, call)
	if err != nil {
		t.Fatalf("not kept: %v", err)
	}
	t.Logf("kept %v", result.Spooled)
}

// asUser runs TestKumaChild as another user.
func asUser(t *testing.T, spool, socket string, uid uint32, groups ...uint32) (string, error) {
	t.Helper()
	// The test binary lies in a folder of root: a copy everybody may run.
	program := filepath.Join(filepath.Dir(spool), "child")
	if _, err := os.Stat(program); err != nil {
		data, err := os.ReadFile(os.Args[0])
		if err == nil {
			syscall.ForkLock.RLock() // a child forked meanwhile would hold the file open for writing: busy for exec
			err = os.WriteFile(program, data, 0o755)
			syscall.ForkLock.RUnlock()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-test.run=^TestKumaChild$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"KUMA_CHILD_SPOOL=" + spool, "KUMA_CHILD_SOCKET=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const (
	usersGroup    = 54_001
	usersKuma     = 54_002
	usersStranger = 54_003
)

// TestOnlyTheGroupReachesSpoolAndSocket runs a caller as user kuma of the group, and one as a stranger.
func TestOnlyTheGroupReachesSpoolAndSocket(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs processes as other users")
	}
	spool := newSpool(t)
	if err := MakeSpool(spool, "54001"); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(filepath.Dir(spool), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) { c.Socket, c.Group, c.Spool = socket, "54001", spool }))
	if out, err := asUser(t, spool, "", usersKuma, usersGroup); err != nil || !strings.Contains(out, "kept true") {
		t.Errorf("kuma by the spool: %v\n%s", err, out)
	}
	d := scriptNext(t, s)
	files, err := filepath.Glob(filepath.Join(spool, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	info, err := os.Lstat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != usersKuma || st.Gid != usersGroup || info.Mode() != 0o640 {
		t.Errorf("the file belongs to %d:%d, mode %s", st.Uid, st.Gid, info.Mode())
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	done := make(chan bridge.Delivery, 1)
	go func() {
		d := scriptNext(t, s)
		_ = d.Settle(t.Context(), nil)
		done <- d
	}()
	if out, err := asUser(t, spool, socket, usersKuma, usersGroup); err != nil || !strings.Contains(out, "kept false") {
		t.Errorf("kuma by the socket: %v\n%s", err, out)
	}
	<-done
	if out, err := asUser(t, spool, socket, usersStranger); err == nil || !strings.Contains(out, "not kept") {
		t.Errorf("a stranger: %v\n%s", err, out)
	}
	scriptNothing(t, s, 100*time.Millisecond)
}

func TestOnlyNamedUsersCall(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs processes as other users")
	}
	spool := newSpool(t)
	if err := MakeSpool(spool, "54001"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(spool, fs.ModeSetgid|fs.ModeSticky|0o770); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(filepath.Dir(spool), "s")
	s := runScript(t, newScript(t, func(c *ScriptConfig) {
		c.Socket, c.Group, c.Spool = socket, "54001", spool
		c.Callers, c.Writers = []uint32{4711}, []uint32{4711}
	}))
	if out, err := asUser(t, spool, socket, usersKuma, usersGroup); err == nil || !strings.Contains(out, "this user may not call") {
		t.Errorf("by the socket: %v\n%s", err, out)
	}
	if out, err := asUser(t, spool, "", usersKuma, usersGroup); err != nil {
		t.Errorf("by the spool: %v\n%s", err, out)
	}
	scriptNothing(t, s, 300*time.Millisecond)
	if bad := spoolNames(t, filepath.Join(spool, callout.SpoolBad)); len(bad) != 1 {
		t.Errorf("put aside: %v", bad)
	}
}
