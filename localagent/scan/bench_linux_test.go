package scan

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkBuiltIn is the speed of the built-in engine: both digests and 1, 1,000 or 10,000 byte patterns in one pass. "bare" is
// the limit: both digests by the least program.
func BenchmarkBuiltIn(b *testing.B) {
	content := mixed(64 << 20)
	f := tempFile(b, content)
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		buf := make([]byte, window)
		for b.Loop() {
			m, s := md5.New(), sha256.New()
			if _, err := io.CopyBuffer(io.MultiWriter(m, s), io.NewSectionReader(f, 0, int64(len(content))), buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, n := range []int{1, 1000, 10_000} {
		e := builtinWith(b, manyPatterns(n))
		b.Run(fmt.Sprintf("patterns=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if v, err := e.Scan(b.Context(), f, FileInfo{Size: int64(len(content))}); err != nil || v.State != Clean {
					b.Fatal(v, err)
				}
			}
		})
	}
}

// BenchmarkSieve is the matcher alone, on a program of this machine.
func BenchmarkSieve(b *testing.B) {
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Fatal(err)
	}
	content = content[:min(len(content), 4<<20)]
	for _, n := range []int{1, 10, 1000, 10_000} {
		e := builtinWith(b, manyPatterns(n))
		b.Run(fmt.Sprintf("patterns=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if name := e.sieve.find(content, 1); name != "" {
					b.Fatal(name)
				}
			}
		})
	}
}

// BenchmarkAgainstClamdscan scans a part of /usr through the same clamd by turns with clamdscan, its own client, and with a
// Scanner at each priority. It reports the medians in ms and the ratio.
func BenchmarkAgainstClamdscan(b *testing.B) {
	program, err := exec.LookPath("clamdscan")
	if err != nil {
		b.Skip("this benchmark needs clamdscan (Debian: clamdscan)")
	}
	d := startClamd(b, "DisableCache yes", "AlertExceedsMax yes", "MaxThreads 4")
	root := "/usr/lib/python3"
	if _, err := os.Stat(root); err != nil {
		root = "/usr/lib/python3.11"
	}
	scanWith := func(p Priority) func() {
		s := newScanner(b, Config{Clamd: d.socket, Priority: p, Roots: Roots{Proc: b.TempDir()}})
		return func() {
			res, err := s.Scan(b.Context(), folder(root), nil)
			if err != nil || res.Clean == 0 {
				b.Fatal(res, err)
			}
		}
	}
	ways := []struct {
		name string
		run  func()
	}{
		{"clamdscan", func() {
			out, err := exec.Command(program, "--fdpass", "--multiscan", "--no-summary", "-c", filepath.Join(d.dir, "conf"), root).CombinedOutput()
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}},
		{"normal", scanWith(Normal)},
		{"low", scanWith(Low)},
		{"idle", scanWith(Idle)},
	}
	took := map[string][]time.Duration{}
	ways[0].run()
	for b.Loop() {
		for _, w := range ways {
			began := time.Now()
			w.run()
			took[w.name] = append(took[w.name], time.Since(began))
		}
	}
	medians := map[string]float64{}
	for name, t := range took {
		slices.Sort(t)
		medians[name] = float64(t[len(t)/2].Microseconds()) / 1000
		b.ReportMetric(medians[name], name+"-ms")
	}
	b.ReportMetric(medians["normal"]/medians["clamdscan"], "ratio")
}

// BenchmarkClamdFile is one small file through clamd: a session that is kept, the descriptor passed.
func BenchmarkClamdFile(b *testing.B) {
	d := startClamd(b)
	c, err := newClamd(d.socket, 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.close)
	f := tempFile(b, bytes.Repeat([]byte("text "), 200))
	for b.Loop() {
		if v, err := c.Scan(b.Context(), f, FileInfo{Size: 1000}); err != nil || v.State != Clean {
			b.Fatal(v, err)
		}
	}
}

func manyPatterns(n int) string {
	var lines strings.Builder
	bytes := noise(16 * n)
	for i := range n {
		fmt.Fprintf(&lines, "P%d:0:*:%x\n", i, bytes[16*i:16*i+16])
	}
	return lines.String()
}

// mixed is half program, half text.
func mixed(n int) []byte {
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return make([]byte, n)
	}
	out := make([]byte, 0, n)
	for len(out) < n/2 {
		out = append(out, own[:min(len(own), n/2-len(out))]...)
	}
	return append(out, bytes.Repeat([]byte("plain text, as in logs\n"), n/20)[:n-len(out)]...)
}
