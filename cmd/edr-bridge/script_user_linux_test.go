package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// nobodyID is the user that owns nothing (Debian's nobody).
const nobodyID = 65534

// mayBeNobody reports whether this process can start others as another user.
func mayBeNobody() bool { return os.Getuid() == 0 }

// mayMount reports whether this process can mount a small disk.
func mayMount() bool {
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(dir) }()
	return unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k") == nil && unix.Unmount(dir, 0) == nil
}

// nobody CODE ARG... runs the program as a user who owns nothing and wants exactly that exit code. Its stderr is the file nobody.stderr.
// It finds the state directory by its variable, because the settings file is closed to this user.
func (s *stage) nobody(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: nobody CODE ARGS")
	}
	program, err := exec.LookPath("edr-bridge")
	if err != nil {
		return err
	}
	open, err := os.MkdirTemp("", "nobody")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(open) }()
	// The folder of the scripts is closed to others, so the program is started through a name outside of it.
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	copied := filepath.Join(open, "edr-bridge")
	// A child that a parallel script forks while the file is open for writing would make it busy for exec.
	syscall.ForkLock.RLock()
	err = os.WriteFile(copied, data, 0o600)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(copied, 0o755), os.Chmod(open, 0o755)); err != nil {
		return err
	}
	stderr, err := os.Create(filepath.Join(s.work, "nobody.stderr"))
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := exec.Command(copied, args[1:]...)
	cmd.Dir, cmd.Stderr = open, stderr
	cmd.Env = slices.DeleteFunc(s.environ(ts), func(v string) bool { return strings.HasPrefix(v, "EDR_BRIDGE_CONFIG=") })
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}}
	err = cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return err
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		return fmt.Errorf("exit code %s, want %s; stderr:\n%s", got, args[0], s.tail("nobody"))
	}
	return nil
}

// small DIR SIZE|full|free mounts a file system of that size on a new folder, fills it, or frees it again.
func (s *stage) small(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: small DIR SIZE|full|free")
	}
	dir := ts.MkAbs(args[0])
	ballast := filepath.Join(dir, "ballast")
	switch args[1] {
	case "full":
		return fill(ballast)
	case "free":
		return os.Remove(ballast)
	default:
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+args[1]); err != nil {
			return err
		}
		s.mounts = append(s.mounts, dir)
		return nil
	}
}

// fill writes until nothing fits any more.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) unmount() {
	for _, dir := range s.mounts {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}
