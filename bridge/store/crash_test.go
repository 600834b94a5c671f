package store

import (
	"bufio"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

// crashOrders is how many orders each admission of the crashing process has: whole transactions are told by it.
const crashOrders = 3

// crashChild admits and moves orders in a loop and prints "<order id> <state>" after each acknowledgement, until it is killed.
func crashChild(dir string) {
	ctx := context.Background()
	tb := childTB{}
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	run := rand.Uint64()
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				var a bridge.Admission
				for k := range crashOrders {
					o := bridgetest.NewOrder(tb, fmt.Sprint(run, "-", g, "-", i, "-", k), fmt.Sprint("ws", g))
					o.Intent = bridge.Intent{Target: o.Host, Body: strings.Repeat("body", 50), Second: time.Now()}
					a.Orders = append(a.Orders, o)
				}
				out, err := s.Admit(ctx, a)
				if err != nil {
					tb.Fatal(err)
				}
				for _, ad := range out {
					fmt.Fprintf(os.Stdout, "%s %s\n", ad.Order.ID, ad.Order.State)
				}
				for _, to := range []bridge.State{bridge.StateSending, bridge.StateAccepted} {
					o := out[0].Order
					from := o.State
					o.State = to
					if out[0].Order, err = s.Move(ctx, o, from); err != nil {
						tb.Fatal(err)
					}
					fmt.Fprintf(os.Stdout, "%s %s\n", o.ID, to)
				}
			}
		}()
	}
	select {}
}

// crash runs a crashing process on dir, kills it some time after its first acknowledgement and returns what it acknowledged.
func crash(t *testing.T, dir string, after time.Duration) map[string]bridge.State {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, childCrash, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]bridge.State{}
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		if id, state, ok := strings.Cut(lines.Text(), " "); ok && slices.Contains(bridge.States(), bridge.State(state)) {
			acknowledged[id] = bridge.State(state)
		}
	}
	_ = cmd.Wait() // it was killed
	if len(acknowledged) == 0 {
		t.Fatal("the process acknowledged nothing")
	}
	return acknowledged
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := map[string]bridge.State{}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		maps.Copy(all, crash(t, dir, time.Duration(rand.IntN(60))*time.Millisecond))
		s, err := Open(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("check after a crash: %v", err)
		}
		stored := states(t, s)
		if len(stored)%crashOrders != 0 {
			t.Errorf("%d orders are stored: some admission is there in part", len(stored))
		}
		for id, state := range all {
			got, ok := stored[id]
			if !ok || slices.Index(bridge.States(), got) < slices.Index(bridge.States(), state) {
				t.Errorf("order %s was acknowledged as %s, stored is %q", id, state, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d orders acknowledged in %d lives", len(all), rounds)
}

func states(t *testing.T, s *Store) map[string]bridge.State {
	t.Helper()
	out := map[string]bridge.State{}
	err := s.read(t.Context(), func(c *conn) error {
		return c.each(t.Context(), "SELECT id, state FROM orders", nil, func(row []driver.Value) (bool, error) {
			out[asText(row[0])] = bridge.State(asText(row[1]))
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestF28TornLogOpensToItsLastWholeCommit stands for a loss of power: the log ends or turns to zeros or rubbish anywhere.
func TestF28TornLogOpensToItsLastWholeCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crash(t, dir, 15*time.Millisecond)
	path := filepath.Join(dir, FileName)
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if len(wal) < 32 {
		t.Fatalf("the log has %d bytes: nothing to tear", len(wal))
	}
	// sqlite.org/fileformat2.html, section 4.1: 32 bytes of header, then frames of 24 bytes and a page.
	frame := 24 + int(binary.BigEndian.Uint32(wal[8:]))
	frames := (len(wal) - 32) / frame
	t.Logf("log of %d frames", frames)
	offsets := []int{0, 1, 31, 32, 33, len(wal) - 1, len(wal)}
	step := max(1, frames/20)
	for i := 0; i < frames; i += step {
		at := 32 + i*frame
		offsets = append(offsets, at+8, at+24, at+24+rand.IntN(frame-24))
	}
	slices.Sort(offsets)
	for name, tear := range map[string]func(at int) []byte{
		"cut":    func(at int) []byte { return wal[:at] },
		"zeroed": func(at int) []byte { return append(slices.Clone(wal[:at]), make([]byte, len(wal)-at)...) },
		"a lost block": func(at int) []byte {
			out := slices.Clone(wal)
			clear(out[at/4096*4096 : min(len(out), at/4096*4096+4096)])
			return out
		},
		"rubbish": func(at int) []byte {
			out := slices.Clone(wal)
			for i := at; i < len(out) && i < at+512; i++ {
				out[i] ^= 0xa5
			}
			return out
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			last := 0
			for _, at := range offsets {
				torn := t.TempDir()
				for suffix, content := range map[string][]byte{"": db, "-wal": tear(at)} {
					if err := os.WriteFile(filepath.Join(torn, FileName+suffix), content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				s, err := Open(t.Context(), Config{Dir: torn})
				if err != nil {
					t.Fatalf("torn at %d of %d: open: %v", at, len(wal), err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("torn at %d of %d: opening took %v, want less than a second", at, len(wal), took)
				}
				if err := s.Check(t.Context()); err != nil {
					t.Errorf("torn at %d of %d: %v", at, len(wal), err)
				}
				n := len(states(t, s))
				if n%crashOrders != 0 || n < last {
					t.Errorf("torn at %d of %d: %d orders, want whole admissions and no fewer than the %d of a shorter log", at, len(wal), n, last)
				}
				last = n
				admitTest(t, s, numbered(t, 1))
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if last == 0 {
				t.Error("the whole log holds no order: the test tore nothing")
			}
		})
	}
}
