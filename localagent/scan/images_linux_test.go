package scan

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// child runs the program for the time of the test and shows it, and nothing else, in the machine's /proc.
func (m *machine) child(cmd *exec.Cmd) int {
	m.t.Helper()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pid := cmd.Process.Pid
	m.link("/proc/"+strconv.Itoa(pid), "proc/"+strconv.Itoa(pid))
	agenttest.Eventually(m.t, "the child sleeps", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return bytes.Contains(text, []byte("600"))
	})
	return pid
}

// sleeper is a copy of sleep with the marker in it.
func sleeper(t testing.TB, name string) string {
	t.Helper()
	path := agenttest.Program(t, "sleep", name)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(marker)
	if err2 := f.Close(); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return path
}

func TestImagesOfProcessesAreFoundWhenNoPathLeadsToThem(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	m := newMachine(t)
	plain, deleted, memory := sleeper(t, "plain"), sleeper(t, "deleted"), sleeper(t, "memory")
	pidPlain := m.child(exec.Command(plain, "600"))
	pidAgain := m.child(exec.Command(plain, "600"))
	pidDeleted := m.child(exec.Command(deleted, "600"))
	if err := os.Remove(deleted); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(memory)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("evil", 0)
	if err != nil {
		t.Fatal(err)
	}
	mem := os.NewFile(uintptr(fd), "evil")
	if _, err := mem.Write(content); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3", "600")
	cmd.ExtraFiles = []*os.File{mem}
	pidMemory := m.child(cmd)
	_ = mem.Close()

	for _, kind := range []bridge.ScanType{bridge.ScanSystemMemory, bridge.ScanStartupAndProcesses} {
		s := newScanner(t, Config{Engine: named{builtinWith(t, markerLine)}, Roots: m.opts})
		res, err := s.Scan(t.Context(), []bridge.ScanObject{{Enabled: true, Type: kind}}, nil)
		if err != nil || len(res.Findings) != 3 {
			t.Fatalf("%s: got %v, %v: want three infected images", kind, res, err)
		}
		for _, want := range []struct {
			path string
			kind Kind
			pids []int
		}{
			{plain, KindFile, []int{pidPlain, pidAgain}},
			{deleted + " (deleted)", KindImage, []int{pidDeleted}},
			{"/memfd:evil (deleted)", KindImage, []int{pidMemory}},
		} {
			i := slices.IndexFunc(res.Findings, func(f Finding) bool { return f.Path == want.path })
			if i < 0 {
				t.Errorf("%s: %s was not found: %v", kind, want.path, res)
				continue
			}
			f := res.Findings[i]
			var pids []int
			for _, p := range f.Processes {
				pids = append(pids, p.PID)
				if start, err := startTicks(fmt.Sprintf("/proc/%d", p.PID)); err != nil || start != p.Start || p.Start == 0 {
					t.Errorf("process %d: start %d, want %d (%v)", p.PID, p.Start, start, err)
				}
			}
			slices.Sort(pids)
			slices.Sort(want.pids)
			if f.Kind != want.kind || !slices.Equal(pids, want.pids) || len(f.SHA256) != 64 || f.Scope != kind {
				t.Errorf("%s: got %+v, want kind %s run by %v", kind, f, want.kind, want.pids)
			}
		}
		if kind == bridge.ScanSystemMemory && res.Clean == 0 {
			t.Error("no library of the processes was looked at")
		}
	}
}

func TestMappedLibraryIsFoundEvenWhenDeleted(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	m := newMachine(t)
	lib := filepath.Join(t.TempDir(), "lib.so")
	write(t, lib, append(bytes.Repeat([]byte{0xcc}, 8192), marker...))
	f, err := os.Open(lib)
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mapping) })
	_ = f.Close()
	if err := os.Remove(lib); err != nil {
		t.Fatal(err)
	}
	m.link("/proc/"+strconv.Itoa(os.Getpid()), "proc/"+strconv.Itoa(os.Getpid()))
	s := newScanner(t, Config{Engine: named{builtinWith(t, markerLine)}, Roots: m.opts})
	res, err := s.Scan(t.Context(), []bridge.ScanObject{{Enabled: true, Type: bridge.ScanSystemMemory}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Other tests of this program may have files with the marker mapped or be infected themselves: the test binary holds it.
	i := slices.IndexFunc(res.Findings, func(f Finding) bool { return f.Path == lib+" (deleted)" })
	if i < 0 || res.Findings[i].Kind != KindImage {
		t.Errorf("got %v, want %s (deleted)", res, lib)
	}
}
