package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// daemon is a clamd of the test's own: own socket, own database, nothing of the host's.
type daemon struct {
	dir, socket string
	cmd         *exec.Cmd
}

// startClamd starts a clamd that knows EICAR, marker and the digests in hashes; extra are more lines of clamd.conf.
func startClamd(t testing.TB, extra ...string) *daemon {
	t.Helper()
	agenttest.NeedRoot(t)
	program, err := exec.LookPath("clamd")
	if err != nil {
		t.Skip("this test needs clamd (Debian: clamav-daemon)")
	}
	dir := t.TempDir()
	d := &daemon{dir: dir, socket: filepath.Join(dir, "s")}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.database(t, "local.ndb", fmt.Sprintf("Eicar-Test:0:*:%x\n%s", eicar(), markerLine))
	conf := append([]string{
		"LocalSocket " + d.socket, "DatabaseDirectory " + filepath.Join(dir, "db"), "Foreground yes", "User root",
		"LogFile " + filepath.Join(dir, "log"), "TemporaryDirectory " + dir,
	}, extra...)
	write(t, filepath.Join(dir, "conf"), []byte(strings.Join(conf, "\n")+"\n"))
	d.cmd = exec.Command(program, "-c", filepath.Join(dir, "conf"))
	var out bytes.Buffer
	d.cmd.Stdout, d.cmd.Stderr = &out, &out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.kill() })
	agenttest.Eventually(t, "clamd answers", func() bool { return d.word("PING") == "PONG" })
	return d
}

func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func (d *daemon) database(t testing.TB, name, text string) {
	t.Helper()
	write(t, filepath.Join(d.dir, "db", name), []byte(text))
}

func (d *daemon) word(command string) string {
	c, err := newClamd(d.socket, 0, 1)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := c.word(ctx, command)
	if err != nil {
		return err.Error()
	}
	return reply
}

func (d *daemon) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestClamdFindsWhatTheBuiltInEngineFinds(t *testing.T) {
	t.Parallel()
	d := startClamd(t, "AlertExceedsMax yes")
	c, err := newClamd(d.socket, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	info, err := c.Info(t.Context())
	if err != nil || info.Name != "clamd" || info.Version == "" || info.MaxFile != 0 || len(info.Notes) != 0 {
		t.Fatalf("got %+v, %v: want a version and no bound, for clamd reports what it skips", info, err)
	}
	testEngine(t, c, ".UNOFFICIAL")
}

func TestClamdByTCPGetsTheContent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	startClamd(t, "TCPSocket "+port, "TCPAddr 127.0.0.1", "StreamMaxLength 350K")
	c, err := newClamd("tcp:"+address, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if info, err := c.Info(t.Context()); err != nil || info.MaxFile != clamdSilentMax {
		t.Fatalf("got %+v, %v: want the careful bound", info, err)
	}
	testEngine(t, c, ".UNOFFICIAL")
	for range 2 {
		f := tempFile(t, make([]byte, 400<<10))
		v, err := c.Scan(t.Context(), f, FileInfo{Size: 400 << 10})
		if err != nil || v.State != Skipped || !strings.Contains(v.Reason, "StreamMaxLength") {
			t.Fatalf("got %+v, %v: want skipped", v, err)
		}
	}
}

func TestOversizedFileIsSkippedAndNeverClean(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, conf, reason string
	}{
		{"clamd reports it", "AlertExceedsMax yes", "clamd: a limit was exceeded: MaxFileSize"},
		{"clamd keeps quiet", "AlertExceedsMax no", reasonUnvouched},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startClamd(t, tt.conf, "MaxFileSize 1M", "MaxScanSize 2M")
			dir := t.TempDir()
			write(t, filepath.Join(dir, "small"), []byte("nothing"))
			write(t, filepath.Join(dir, "large"), append(make([]byte, 2<<20), eicar()...))
			s := newScanner(t, Config{Clamd: d.socket, ClamdMaxFile: 1 << 20})
			res, err := s.Scan(t.Context(), folder(dir), nil)
			if err != nil || res.Clean != 1 || total(res.Skipped) != 1 || res.Infected != 0 {
				t.Fatalf("got %v, %v: want one clean and one skipped", res, err)
			}
			if g := res.Skipped[0]; g.Reason != tt.reason || len(g.Examples) != 1 || !strings.HasSuffix(g.Examples[0], "/large") {
				t.Errorf("got %+v, want reason %q of large", g, tt.reason)
			}
			if res.Complete() {
				t.Error("a result with skipped files calls itself complete")
			}
		})
	}
}

func TestClamdKeepsItsDatabaseWhenTheFreshOneIsMalformed(t *testing.T) {
	t.Parallel()
	d := startClamd(t)
	d.database(t, "local.ndb", "this is no signature\n")
	if got := d.word("RELOAD"); got != "RELOADING" {
		t.Fatalf("RELOAD: %s", got)
	}
	agenttest.Eventually(t, "clamd refuses the database", func() bool { return strings.Contains(d.log(t), "keeping the previous instance") })
	dir := t.TempDir()
	write(t, filepath.Join(dir, "e"), eicar())
	s := newScanner(t, Config{Clamd: d.socket})
	res, err := s.Scan(t.Context(), folder(dir), nil)
	if err != nil || res.Infected != 1 {
		t.Fatalf("got %v, %v", res, err)
	}
	d.database(t, "local.ndb", fmt.Sprintf("Other-Name:0:*:%x\n", eicar()))
	_ = d.word("RELOAD")
	agenttest.Eventually(t, "clamd takes the good database", func() bool {
		res, err := s.Scan(t.Context(), folder(dir), nil)
		return err == nil && len(res.Findings) == 1 && res.Findings[0].Signature == "Other-Name.UNOFFICIAL"
	})
}

// killer kills clamd before the nth file is asked about.
type killer struct {
	*clamd
	d    *daemon
	left int
}

func (k *killer) Scan(ctx context.Context, f *os.File, info FileInfo) (Verdict, error) {
	if k.left--; k.left == 0 {
		k.d.kill()
	}
	return k.clamd.Scan(ctx, f, info)
}

func TestClamdThatDiesInTheMiddleLeavesFailedFilesNotCleanOnes(t *testing.T) {
	t.Parallel()
	d := startClamd(t)
	dir := t.TempDir()
	const files = 50
	for i := range files {
		write(t, filepath.Join(dir, fmt.Sprintf("f%02d", i)), []byte("harmless"))
	}
	c, err := newClamd(d.socket, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.outage = 500 * time.Millisecond
	s := newScanner(t, Config{Engine: &killer{c, d, 10}, Workers: 1})
	res, err := s.Scan(t.Context(), folder(dir), nil)
	if v := verdict.Of(err); !errors.Is(err, ErrEngineGone) || v.Class != bridge.Retry {
		t.Errorf("got %v, want that the engine is gone", err)
	}
	if res.Clean != 9 || total(res.Failed) != 1 || res.notReached() > files-10 || res.Complete() {
		t.Errorf("got %v: want 9 clean, 1 failed, the rest not reached", res)
	}
	if !strings.Contains(res.Truncated, "does not answer") {
		t.Errorf("truncated %q, want that clamd does not answer", res.Truncated)
	}
	if _, err := newScanner(t, Config{Clamd: d.socket}).Probe(t.Context()); err == nil {
		t.Error("the probe takes a dead clamd for a live one")
	}
	if res, err := newScanner(t, Config{Clamd: d.socket}).Scan(t.Context(), folder(dir), nil); err == nil || res.Clean != 0 {
		t.Errorf("got %v, %v from a dead clamd that was named in the settings", res, err)
	}
}

func TestSessionThatClamdEndedIsOpenedAgain(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	// Each session ends after one answer, as clamd ends idle ones.
	stop := serve(t, socket, func(conn net.Conn, n int) {
		_, _ = fmt.Fprintf(conn, "%d: fd[7]: OK\x00", 1)
	})
	defer stop()
	c, err := newClamd(socket, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	f := tempFile(t, []byte("x"))
	for i := range 5 {
		if v, err := c.Scan(t.Context(), f, FileInfo{Size: 1}); err != nil || v.State != Clean {
			t.Fatalf("file %d: got %+v, %v", i, v, err)
		}
	}
}

func TestHostileAnswersAreNoVerdict(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("A", 5000)
	for _, tt := range []struct {
		name, answer, want string
	}{
		{"nothing", "", "without an answer"},
		{"no end", "1: fd[3]: OK", "broke in the middle"},
		{"endless", long + "\x00", "longer than"},
		{"another number", "2: fd[3]: OK\x00", "no sense"},
		{"two answers", "1: fd[3]: OK\x001: fd[3]: OK\x00", "two answers"},
		{"no number", "fd[3]: OK\x00", "no sense"},
		{"another target", "1: /etc/passwd: OK\x00", "no sense"},
		{"no name", "1: fd[3]:  FOUND\x00", "no sense"},
		{"long name", "1: fd[3]: " + long[:300] + " FOUND\x00", "no sense"},
		{"error", "1: fd[3]: Can't allocate memory ERROR\x00", "allocate memory"},
		{"command", "UNKNOWN COMMAND\x00", "no sense"},
		{"almost", "1: fd[3]: OK \x00", "no sense"},
		{"escape", "1: fd[3]: \x1b[2J ERROR\x00", `"\x1b[2J"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "s")
			stop := serve(t, socket, func(conn net.Conn, _ int) { _, _ = conn.Write([]byte(tt.answer)) })
			defer stop()
			c, err := newClamd(socket, 0, 1)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.close)
			v, err := c.Scan(t.Context(), tempFile(t, []byte("x")), FileInfo{Size: 1})
			if err == nil || !strings.Contains(err.Error(), tt.want) || v.State != Failed {
				t.Errorf("got %+v, %v: want an error with %q", v, err, tt.want)
			}
		})
	}
}

func TestClamdThatNeverAnswersIsLeftWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	block := make(chan struct{})
	stop := serve(t, socket, func(net.Conn, int) { <-block })
	defer stop()
	defer close(block)
	c, err := newClamd(socket, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Scan(ctx, tempFile(t, []byte("x")), FileInfo{Size: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the time", err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), []byte("x"))
	res, err := newScanner(t, Config{Engine: named{c}, PerFile: 50 * time.Millisecond}).Scan(t.Context(), folder(dir), nil)
	if err != nil || total(res.Skipped) != 1 || res.Skipped[0].Reason != reasonSlow {
		t.Errorf("got %v, %v: want one file that took too long", res, err)
	}
}

// named answers Info for an engine that is not asked.
type named struct{ Engine }

func (named) Info(context.Context) (EngineInfo, error) { return EngineInfo{Name: "test"}, nil }

// serve plays a clamd: it takes the beginning of a session and one question, and lets answer say what it likes.
func serve(t *testing.T, socket string, answer func(conn net.Conn, n int)) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 0, 64)
			for !bytes.Contains(buf, []byte("FILDES\x00\x00")) {
				part := make([]byte, 64)
				got, err := conn.Read(part)
				if err != nil {
					break
				}
				buf = append(buf, part[:got]...)
			}
			answer(conn, n)
			_ = conn.Close()
		}
	}()
	return func() { _ = l.Close(); <-done }
}

func folder(path string) []bridge.ScanObject {
	return []bridge.ScanObject{{Enabled: true, Path: path, Recursive: true, Type: bridge.ScanFolder}}
}

func TestProbeNamesTheEngineAndItsSignatures(t *testing.T) {
	t.Parallel()
	quiet := startClamd(t)
	sigs := filepath.Join(t.TempDir(), "sigs")
	write(t, sigs, []byte(markerLine))
	for _, tt := range []struct {
		cfg  Config
		want []string
	}{
		{Config{Clamd: quiet.socket}, []string{"clamd 1.", "hand-made", "AlertExceedsMax yes"}},
		{Config{Engine: builtinWith(t, markerLine)}, []string{"built-in 1", "2 signatures"}},
		{Config{Engine: builtinWith(t, "")}, []string{"built-in 1, 1 signatures"}},
	} {
		got, err := newScanner(t, tt.cfg).Probe(t.Context())
		for _, want := range tt.want {
			if err != nil || !strings.Contains(got, want) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
	}
	b, note, err := newScanner(t, Config{}).builtin()
	if err != nil || note != "" {
		t.Fatal(note, err)
	}
	if info, err := b.Info(t.Context()); err != nil || len(info.Notes) != 1 || info.Signatures != "only the EICAR test file" {
		t.Errorf("got %+v, %v: want a note that nothing but EICAR is known", info, err)
	}
	b, _, err = newScanner(t, Config{Signatures: sigs}).builtin()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := b.Info(t.Context()); err != nil || info.Date.IsZero() {
		t.Errorf("got %+v, %v: want the date of the file", info, err)
	}
}
