package prevention

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// insideBench runs the benchmark again in a mount namespace of its own and returns true there.
func insideBench(b *testing.B) bool {
	b.Helper()
	agenttest.NeedRoot(b)
	const env = "PREVENTION_BENCH_INSIDE"
	if os.Getenv(env) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			b.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchtime=3000x", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), env+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("inside: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			b.Logf("%s", line)
		}
	}
	b.SkipNow()
	return false
}

// noop writes the least program there is: it exits. Elsewhere than on amd64 it is true(1).
func noop(b *testing.B, path string) string {
	b.Helper()
	if runtime.GOARCH != "amd64" {
		return agenttest.CopyProgram(b, "/bin/true", path)
	}
	const base, head = 0x400000, 64 + 56
	code := []byte{0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // mov $60,%eax; xor %edi,%edi; syscall
	e := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...)
	le := binary.LittleEndian
	e = le.AppendUint16(le.AppendUint16(e, 2), 0x3e)       // executable, x86-64
	e = le.AppendUint32(e, 1)                              // version
	e = le.AppendUint64(le.AppendUint64(e, base+head), 64) // entry, program headers
	e = le.AppendUint32(le.AppendUint64(e, 0), 0)          // no sections, flags
	e = le.AppendUint16(le.AppendUint16(e, 64), 56)        // sizes
	e = le.AppendUint16(le.AppendUint16(e, 1), 0)          // one program header
	e = le.AppendUint16(le.AppendUint16(e, 0), 0)          // no sections
	e = le.AppendUint32(le.AppendUint32(e, 1), 5)          // load, read and execute
	e = le.AppendUint64(le.AppendUint64(e, 0), base)       // offset, address
	e = le.AppendUint64(e, base)                           // physical
	n := uint64(head + len(code))                          //
	e = le.AppendUint64(le.AppendUint64(le.AppendUint64(e, n), n), 0x1000)
	return agenttest.WriteProgram(b, path, append(e, code...))
}

// run starts a program and waits for its end.
func run(b *testing.B, path string) time.Duration {
	began := time.Now()
	p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{})
	if err != nil {
		b.Fatal(err)
	}
	st, err := p.Wait()
	if err != nil || !st.Success() {
		b.Fatal(st, err)
	}
	return time.Since(began)
}

func median(d []time.Duration, part float64) float64 {
	slices.Sort(d)
	return float64(d[int(float64(len(d)-1)*part)].Nanoseconds()) / 1000
}

// overhead compares the starts of a program on a watched file system with those of its twin on one that is not, in turns.
func overhead(b *testing.B, mode Mode, program func(*testing.B, string) string, prepare func(*rig, string)) {
	if !insideBench(b) {
		return
	}
	r := newRig(b, func(s *settings) { s.Mode = mode })
	free := program(b, filepath.Join(tmpfs(b), "noop"))
	watched := program(b, filepath.Join(r.dir, "noop"))
	r.add(bridge.PreventExecution{Hash: strings.Repeat("a", 64)})
	prepare(r, watched)
	for range 50 {
		run(b, free)
		run(b, watched)
	}
	var with, without []time.Duration
	for b.Loop() {
		without = append(without, run(b, free))
		with = append(with, run(b, watched))
	}
	m, l := median(with, .5), median(without, .5)
	b.ReportMetric(l, "free-p50-µs")
	b.ReportMetric(m, "watched-p50-µs")
	b.ReportMetric(median(without, .9), "free-p90-µs")
	b.ReportMetric(median(with, .9), "watched-p90-µs")
	b.ReportMetric(100*(m-l)/l, "overhead-%")
	b.ReportMetric(0, "ns/op")
	if s := r.status(); s.Restarts+int(s.Timeouts+s.Busy) > 0 {
		b.Errorf("the status is %+v", s)
	}
}

// BenchmarkExecOverhead is the budget: at most 10 % in the median on cached programs.
func BenchmarkExecOverhead(b *testing.B) { overhead(b, Block, noop, func(*rig, string) {}) }

// BenchmarkExecOverheadLogOnly is the same when executions are only watched.
func BenchmarkExecOverheadLogOnly(b *testing.B) { overhead(b, LogOnly, noop, func(*rig, string) {}) }

// BenchmarkExecOverheadOfOthersFiles is a program that others than root can write to: the kernel asks each time.
func BenchmarkExecOverheadOfOthersFiles(b *testing.B) {
	overhead(b, Block, noop, giveAway)
}

// BenchmarkExecOverheadOfOthersDynamicFiles is the same with a program that is linked with libc, as nearly all are.
func BenchmarkExecOverheadOfOthersDynamicFiles(b *testing.B) {
	overhead(b, Block, func(b *testing.B, path string) string { return agenttest.CopyProgram(b, "/bin/true", path) }, giveAway)
}

func giveAway(r *rig, path string) {
	if err := os.Chown(path, 65534, 65534); err != nil {
		r.t.Fatal(err)
	}
}

// BenchmarkExecOverheadWithPathRules has 200 rules by path beside it.
func BenchmarkExecOverheadWithPathRules(b *testing.B) {
	overhead(b, Block, noop, func(r *rig, _ string) {
		for i := range 200 {
			r.add(bridge.PreventExecution{Path: fmt.Sprintf("%s/evil%d", r.dir, i)})
		}
	})
}
