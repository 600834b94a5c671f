package ioc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

const readerEnv = "IOC_TEST_READER"

// TestMain lets this test program read one archive and say how much memory that took.
func TestMain(m *testing.M) {
	if os.Getenv(readerEnv) != "" {
		archive, err := io.ReadAll(os.Stdin)
		if err != nil {
			panic(err)
		}
		docs, err := Read(archive, Limits{})
		if err == nil {
			_, report := Compile(docs)
			fmt.Printf("read %d terms\n", report.Terms)
		} else {
			fmt.Printf("refused %v\n", err)
		}
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			panic(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("%s\nGoSys: %d\n", status, m.Sys>>10)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// peak returns what a child said about the archive and how much memory it had at most, in KiB: what was resident
// (proc_pid_status(5), VmHWM), or, because the race detector's own memory is part of that, what Go took from the system.
func peak(t *testing.T, archive []byte) (string, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), readerEnv+"=1")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said, status, _ := strings.Cut(string(out), "\n")
	line := "VmHWM:"
	if raceDetector {
		line = "GoSys:"
	}
	for l := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(l, line); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return said, kib
		}
	}
	t.Fatalf("no %s in %s", line, out)
	return "", 0
}

func TestI10ReadingAnArchiveTakesLessThan64MiB(t *testing.T) {
	t.Parallel()
	_, empty := peak(t, []byte("PK\x03\x04"))
	many := func(n int, text func(i int) string, store bool) []byte {
		var entries []entryOf
		for i := range n {
			entries = append(entries, entryOf{name: fmt.Sprintf("%d.ioc", i), text: text(i), store: store})
		}
		return pack(t, entries...)
	}
	body := func(i int, inside string) string { return v10(fmt.Sprint(i), inside) }
	noise := func(n int) string {
		// Digits that differ, so that the ratio does not end it first.
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%x", uint32(i)*2654435761)
		}
		return b.String()[:n]
	}
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"10 MB of terms": {many(5, func(i int) string {
			var b strings.Builder
			for k := 0; b.Len() < 1_900_000; k++ {
				b.WriteString(item(fmt.Sprintf("FileItem/Md5sum is %032x", uint64(i*1_000_000+k)*0x9e3779b97f4a7c15)))
			}
			return body(i, either(b.String()))
		}, false), "read "},
		"attributes": {many(2, func(i int) string {
			return body(i, "<a "+strings.Repeat(`b="" `, 50_000)+"/>"+strings.Repeat(`<a `+strings.Repeat(`b="" `, 50_000)+"/>", 5))
		}, true), "refused"},
		"one tag of 2 MB":  {many(1, func(int) string { return "<ioc " + strings.Repeat(`a="" `, 400_000) + "/>" }, true), "refused"},
		"namespaces":       {many(1, func(int) string { return "<ioc " + strings.Repeat(`xmlns:a="b" `, 160_000) + "/>" }, true), "refused"},
		"depth":            {many(1, func(int) string { return strings.Repeat("<a>", 600_000) }, true), "refused"},
		"one text of 2 MB": {many(1, func(i int) string { return body(i, "<a>"+noise(1_900_000)+"</a>") }, false), "refused"},
		"patterns": {many(20, func(i int) string {
			var b strings.Builder
			for k := range 400 {
				b.WriteString(item(fmt.Sprintf(`FileItem/FileName matches %d%d\pL{1000}(a|b|[^c]){1000}`, i, k)))
			}
			return v11(fmt.Sprint(i), either(b.String()))
		}, false), "read "},
		"patterns that fit": {many(20, func(i int) string {
			var b strings.Builder
			for k := range 100 {
				b.WriteString(item(fmt.Sprintf(`FileItem/FileName matches %d-%d-[^a]{900}`, i, k)))
			}
			return v11(fmt.Sprint(i), either(b.String()))
		}, false), "read "},
		"bomb":                      {many(3, func(int) string { return strings.Repeat("\n", 20<<20) }, false), "refused"},
		"30 000 entries":            {many(30_000, func(int) string { return "" }, true), "refused"},
		"headers of 60 000 entries": {bytes.Repeat(many(100, func(int) string { return "" }, true), 600), "refused"},
		"60 000 terms": {many(100, func(i int) string {
			return body(i, either(strings.Repeat(`<IndicatorItem id="`+noise(8)+`" condition="is"/>`, 600)))
		}, false), "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "bomb" && len(c.archive) > 6<<20 {
				t.Fatalf("the bomb is %d bytes", len(c.archive))
			}
			said, kib := peak(t, c.archive)
			if !strings.HasPrefix(said, c.want) {
				t.Errorf("%s, want %s", said, c.want)
			}
			if kib > 64<<10 {
				t.Errorf("%d MiB at most", kib>>10)
			}
			t.Logf("%d KiB packed: %d MiB, of it %d MiB the program: %s", len(c.archive)>>10, kib>>10, empty>>10, said)
		})
	}
}
