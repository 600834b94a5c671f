package scan

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestFileThatMayNotBeReadIsFailedNotClean(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err   error
		state State
		why   string
	}{
		{&fs.PathError{Err: unix.EACCES}, Failed, reasonDenied},
		{&fs.PathError{Err: unix.EIO}, Failed, reasonNotOpened},
		{&fs.PathError{Err: unix.ENOENT}, Skipped, reasonGone},
		{&fs.PathError{Err: files.ErrSwapped}, Skipped, reasonGone},
		{&fs.PathError{Err: files.ErrLink}, Skipped, reasonLink},
		{&fs.PathError{Err: files.ErrNotRegular}, Skipped, reasonNotRegular},
		{errNoMedium, Skipped, reasonNoMedium},
	} {
		if v := notOpened(tt.err); v.State != tt.state || v.Reason != tt.why {
			t.Errorf("%v: got %+v, want %s %q", tt.err, v, tt.state, tt.why)
		}
	}
}

func TestUnreadableFilesAndFoldersAreCounted(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "open"), []byte("x"))
	write(t, filepath.Join(dir, "closed"), []byte("x"))
	write(t, filepath.Join(dir, "folder/f"), []byte("x"))
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "open"), 0o644), os.Chmod(filepath.Join(dir, "closed"), 0), os.Chmod(filepath.Join(dir, "folder"), 0),
		os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		res Result
		err error
	}
	out := make(chan answer)
	s := newScanner(t, Config{Engine: &fake{}, Workers: 1, Exclude: asNobody(t)})
	go func() {
		res, err := s.Scan(t.Context(), folder(dir), nil)
		out <- answer{res, err}
	}()
	a := <-out
	if a.err != nil || a.res.Found != a.res.Clean+total(a.res.Failed) || total(a.res.Failed) == 0 || a.res.Complete() {
		t.Errorf("got %v, %v: want the closed folder counted as failed", a.res, a.err)
	}
}

// asNobody makes the walker, whose thread asks it, lose the right to read everything. The thread ends with the walk.
func asNobody(t *testing.T) func(string) bool {
	return func(string) bool {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			t.Error(err)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
			t.Error(errno)
		}
		return false
	}
}

func TestFileThatKeepsChangingIsSkipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	write(t, path, []byte("x"))
	for _, tt := range []struct {
		state State
		want  func(Result) bool
	}{
		{Clean, func(r Result) bool {
			return total(r.Skipped) == 1 && r.Skipped[0].Reason == reasonChanged && r.Clean == 0
		}},
		{Infected, func(r Result) bool { return r.Infected == 1 }},
	} {
		calls := 0
		e := &fake{scan: func(context.Context, *os.File, FileInfo) (Verdict, error) {
			calls++
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("y")
				_ = f.Close()
			}
			return Verdict{State: tt.state, Signature: "S"}, err
		}}
		res, err := newScanner(t, Config{Engine: e, Workers: 1}).Scan(t.Context(), folder(dir), nil)
		if err != nil || !tt.want(res) || calls != lookTries {
			t.Errorf("%s: got %v, %v after %d looks", tt.state, res, err, calls)
		}
	}
}
