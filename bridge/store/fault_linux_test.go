package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

// limitChild writes until the system refuses to let its files grow, then is allowed to again, and prints what was acknowledged.
func limitChild(dir string) {
	ctx, tb := context.Background(), childTB{}
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	admit := func(i int) error {
		o := bridgetest.NewOrder(tb, fmt.Sprint("a", i), "ws")
		o.State, o.Intent = bridge.StateSending, bridge.Intent{Target: "ws", Body: strings.Repeat("x", 20_000)}
		_, err := s.Admit(ctx, bridge.Admission{Orders: []bridge.Order{o}})
		word := "acknowledged"
		if err != nil {
			if word = "refused"; resultCode(err) == codeIOErr {
				word = "io"
			}
		}
		fmt.Fprintln(os.Stdout, word, o.ID)
		return err
	}
	for i := range 5 {
		if err := admit(i); err != nil {
			tb.Fatal(err)
		}
	}
	info, err := os.Stat(s.Path() + "-wal")
	if err != nil {
		tb.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		tb.Fatal(err)
	}
	open := limit
	limit.Cur = uint64(info.Size()) + 100_000
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		tb.Fatal(err)
	}
	for i := 5; i < 25; i++ {
		_ = admit(i)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &open); err != nil {
		tb.Fatal(err)
	}
	for i := 25; i < 30; i++ {
		if err := admit(i); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

// TestF30ErrorOfTheDiskAcknowledgesNothingAndRecovers has the system fail writes in the middle of transactions (RLIMIT_FSIZE, setrlimit(2):
// EFBIG, which SQLite takes for an I/O error).
func TestF30ErrorOfTheDiskAcknowledgesNothingAndRecovers(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), self, childLimit, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, seen := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(string(out)) {
		word, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[word]++
		want[id] = word == "acknowledged"
	}
	if seen["io"] == 0 || seen["acknowledged"] < 10 {
		t.Fatalf("%v: the limit caused no I/O error", seen)
	}
	s := openTest(t, Config{Dir: dir})
	stored := states(t, s)
	for id, acknowledged := range want {
		if (stored[id] != "") != acknowledged {
			t.Errorf("order %s: acknowledged %v, stored as %q", id, acknowledged, stored[id])
		}
	}
	sound(t, s)
}
