package callout

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeBridge listens at a path and does to each connection what the function says.
func fakeBridge(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(newSpool(t)), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { do(conn); _ = conn.Close() }()
		}
	}()
	return path
}

// TestACallIsSpooledWhateverAnswersInPlaceOfTheBridge tries everything that is no answer of a bridge.
func TestACallIsSpooledWhateverAnswersInPlaceOfTheBridge(t *testing.T) {
	t.Parallel()
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(text))
		}
	}
	for name, do := range map[string]func(net.Conn){
		"silence":      func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"hang-up":      func(net.Conn) {},
		"nothing":      answer(""),
		"garbage":      answer("\x00\xff\x00"),
		"a greeting":   answer("220 mail.example ESMTP\r\n\r\n"),
		"no body":      answer("HTTP/1.1 200 OK\r\n\r\n"),
		"half a line":  answer("HTTP/1.1 200 OK\r\n\r\n{\"id\":\"k00000001\",\"state\":\"queued\"}"),
		"other JSON":   answer("HTTP/1.1 200 OK\r\n\r\n[]\n"),
		"other call":   answer("HTTP/1.1 200 OK\r\n\r\n{\"id\":\"k00000002\",\"state\":\"queued\"}\n"),
		"no state":     answer("HTTP/1.1 200 OK\r\n\r\n{\"id\":\"k00000001\"}\n"),
		"redirect":     answer("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n{}\n"),
		"not now":      answer("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"id\":\"k00000001\",\"problem\":\"a\\nb\"}\n"),
		"endless":      func(c net.Conn) { _, _ = io.Copy(c, endless{}) },
		"slow trickle": func(c net.Conn) { trickle(c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spool := newSpool(t)
			begin := time.Now()
			result, err := HandOver(t.Context(), HandOverConfig{Socket: fakeBridge(t, do), Spool: spool}, newCall(1))
			if err != nil || !result.Spooled || result.State != CallSpooled || result.ID != "k00000001" {
				t.Errorf("got %+v, %v", result, err)
			}
			if strings.ContainsAny(result.Detail, "\n\x00") {
				t.Errorf("detail %q", result.Detail)
			}
			if got := len(spoolNames(t, spool)); got != 1 {
				t.Errorf("%d files in the spool", got)
			}
			if took := time.Since(begin); took > 10*time.Second { // 50 ms on a quiet machine
				t.Errorf("took %s", took)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func trickle(c net.Conn) {
	for range 1000 {
		if _, err := c.Write([]byte("H")); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestACallTheBridgeRefusesIsNotSpooled(t *testing.T) {
	t.Parallel()
	spool := newSpool(t)
	socket := fakeBridge(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n{\"problem\":\"no host\"}\n"))
	})
	_, err := HandOver(t.Context(), HandOverConfig{Socket: socket, Spool: spool, Budget: 5 * time.Second}, newCall(1))
	if ce, refused := errors.AsType[*CallError](err); !refused || ce.Status != 400 || ce.Problem != "no host" {
		t.Errorf("got %v", err)
	}
	if got := spoolNames(t, spool); len(got) != 0 {
		t.Errorf("in the spool: %v", got)
	}
}

func TestARefusalOfTheBridgeIsFinalAndPrintable(t *testing.T) {
	t.Parallel()
	for status, final := range map[string]bool{"400": true, "403": true, "413": true, "422": true, "404": false, "429": false, "500": false, "503": false} {
		result, err := handOverAnswer([]byte("HTTP/1.1 "+status+" X\r\nContent-Type: x\r\n\r\n{\"id\":\"k\",\"problem\":\"a\\u001b\\u202eb\"}\n"), "k")
		ce, refused := errors.AsType[*CallError](err)
		if err == nil || refused != final || result != (Result{}) {
			t.Errorf("%s: got %+v, %v", status, result, err)
		}
		if refused && ce.Problem != `a\x1b\u202eb` {
			t.Errorf("%s: problem %q", status, ce.Problem)
		}
	}
}

func TestWithoutSocketAndSpoolACallIsNotKept(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]HandOverConfig{
		"neither":   {},
		"no spool":  {Socket: "/nowhere/s"},
		"no folder": {Socket: "/nowhere/s", Spool: "/nowhere/spool"},
	} {
		if result, err := HandOver(t.Context(), cfg, newCall(1)); !errors.Is(err, ErrNotKept) || result.Spooled {
			t.Errorf("%s: got %+v, %v", name, result, err)
		}
	}
	spool := newSpool(t)
	mustSpool(t, spool, newCall(1))
	_, err := HandOver(t.Context(), HandOverConfig{Spool: spool, Limits: SpoolLimits{Files: 1}}, newCall(2))
	if !errors.Is(err, ErrNotKept) || !errors.Is(err, ErrSpoolFull) {
		t.Errorf("full: got %v", err)
	}
}

func TestACallWithAnEventToFetchIsAlwaysSpooled(t *testing.T) {
	t.Parallel()
	spool := newSpool(t)
	asked := false
	socket := fakeBridge(t, func(net.Conn) { asked = true })
	call, err := ParseCall("quarantineFile.py", []string{"--event-id", "8a3f6d3e-57a8-4f6b-9a9c-3a5f0c2b7d11", "--timestamp", "1732104000123"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := HandOver(t.Context(), HandOverConfig{Socket: socket, Spool: spool}, call)
	if err != nil || !result.Spooled || asked || !callIsID(result.ID) {
		t.Errorf("got %+v, %v, asked %v", result, err, asked)
	}
}

func FuzzHandOverAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{\"id\":\"k00000001\",\"state\":\"queued\",\"order\":\"o1\"}\n"))
	f.Add([]byte("HTTP/1.1 422 X\r\n\r\n{\"problem\":\"x\"}\n"))
	f.Add([]byte("HTTP/1.1 \r\n\r\n\n"))
	f.Fuzz(func(t *testing.T, response []byte) {
		result, err := handOverAnswer(response, "k00000001")
		if err == nil && (result.ID != "k00000001" || result.State == "" || argsDisplay(result.Detail) != result.Detail) {
			t.Errorf("%q is taken for %+v", response, result)
		}
	})
}

func TestLocationIsReadOnlyFromFilesThatCanBeTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := Location{Socket: "/run/edr-bridge/kuma.sock", Spool: "/var/spool/edr-bridge/kuma"}
	good := filepath.Join(dir, LocationFile)
	for range 2 {
		if err := WriteLocation(good, want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadLocation(good); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if info, err := os.Stat(good); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %s, %v", info.Mode(), err)
	}
	if left := spoolNames(t, dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	for name, content := range map[string]string{
		"empty": "", "null": "null", "nothing": "{}", "relative": `{"socket":"s"}`, "unknown": `{"socket":"/s","password":"x"}`, "twice": `{"socket":"/s","socket":"/t"}`,
		"two": `{"socket":"/s"}{}`, "control": `{"socket":"/s\u0007"}`, "number": `{"socket":1}`, "long": `{"socket":"/` + strings.Repeat("s", 5000) + `"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadLocation(path); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for name, spoil := range map[string]func(path string) error{
		"others may write": func(p string) error { return os.Chmod(p, 0o646) },
		"group may write":  func(p string) error { return os.Chmod(p, 0o664) },
		"a link":           func(p string) error { return errors.Join(os.Remove(p), os.Symlink(good, p)) },
		"a pipe":           func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o644)) },
		"somebody's":       func(p string) error { return os.Chown(p, 4711, 4711) },
	} {
		if name == "somebody's" && os.Geteuid() != 0 {
			continue // only root can give a file away
		}
		path := filepath.Join(dir, "spoiled")
		if err := errors.Join(WriteLocation(path, want), spoil(path)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadLocation(path); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []Location{{}, {Socket: "s"}, {Spool: "/a\nb"}} {
		if err := WriteLocation(good, l); err == nil {
			t.Errorf("%+v is written", l)
		}
	}
}

func TestLocateTakesTheFileBesideTheLinkFirst(t *testing.T) {
	t.Parallel()
	links, programs := t.TempDir(), t.TempDir()
	byLink, byProgram := Location{Spool: "/link"}, Location{Spool: "/program"}
	argv0, executable := filepath.Join(links, "isolateHost.py"), filepath.Join(programs, "edr-bridge")
	if _, _, err := Locate(argv0, executable); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := WriteLocation(filepath.Join(programs, LocationFile), byProgram); err != nil {
		t.Fatal(err)
	}
	if got, path, err := Locate(argv0, executable); err != nil || got != byProgram || filepath.Dir(path) != programs {
		t.Errorf("got %+v at %s, %v", got, path, err)
	}
	// A name without a path was found by PATH, which does not count.
	if got, _, err := Locate("isolateHost.py", executable); err != nil || got != byProgram {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := WriteLocation(filepath.Join(links, LocationFile), byLink); err != nil {
		t.Fatal(err)
	}
	if got, path, err := Locate(argv0, executable); err != nil || got != byLink || filepath.Dir(path) != links {
		t.Errorf("got %+v at %s, %v", got, path, err)
	}
	// One that may not be trusted is not passed over: calls would go elsewhere unnoticed.
	if err := os.Chmod(filepath.Join(links, LocationFile), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Locate(argv0, executable); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}
