package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// filled returns the closed file of a store with n orders and the number of the pages of a table.
func filled(t *testing.T, n int, table string) (content []byte, pages []int) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		o := numbered(t, i)
		o.Detail = fmt.Sprint("detail", i)
		admitTest(t, s, o)
	}
	err = s.read(t.Context(), func(c *conn) error {
		return c.each(t.Context(), `SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno`, []driver.Value{table},
			func(row []driver.Value) (bool, error) {
				pages = append(pages, int(asInt(row[0])))
				return true, nil
			})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(s.Path()); err != nil {
		t.Fatal(err)
	}
	return content, pages
}

// put makes a folder with a store of this content.
func put(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestF29VerifyNamesTheFirstRecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	whole, pages := filled(t, 300, "audit")
	if len(pages) < 10 {
		t.Fatalf("%d pages: too few", len(pages))
	}
	bad := bytes.Clone(whole)
	want := int64(1)
	for _, p := range pages[:4] {
		want += int64(binary.BigEndian.Uint16(whole[(p-1)*4096+3:])) // cells of a leaf (sqlite.org/fileformat2.html, section 1.6)
	}
	at := (pages[4] - 1) * 4096
	copy(bad[at:at+8], "\xff\xff\xff\xff\xff\xff\xff\xff") // the head of a leaf of the table
	s := openTest(t, Config{Dir: put(t, bad)})
	rep, err := s.VerifyAudit(t.Context(), nil)
	if err != nil || rep.FirstBad != want || !strings.Contains(rep.Problem, "cannot be read") {
		t.Fatalf("%+v, %v, want that record %d cannot be read", rep, err, want)
	}
	var n int64
	if err := s.ExportAudit(t.Context(), 0, func(AuditRecord) error { n++; return nil }); !isCorrupt(err) || n != rep.FirstBad-1 {
		t.Errorf("export: %d records, %v, want %d and an error", n, err, rep.FirstBad-1)
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("check: %v, want ErrDamaged", err)
	}
}

func TestF29OpenRefusesADamagedStore(t *testing.T) {
	t.Parallel()
	whole, pages := filled(t, 300, "audit")
	last := (pages[len(pages)-1] - 1) * 4096
	for name, damage := range map[string]func(b []byte) []byte{
		"the magic":               func(b []byte) []byte { b[0] ^= 1; return b },
		"the head of the schema":  func(b []byte) []byte { b[100] ^= 0xff; return b },
		"the last page":           func(b []byte) []byte { b[last] ^= 0xff; return b },
		"a text in the last page": func(b []byte) []byte { b[last+bytes.LastIndex(b[last:last+4096], []byte("detail"))] ^= 1; return b },
		"a cut":                   func(b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"zeros":                   func(b []byte) []byte { return append(b[:4096:4096], make([]byte, len(b)-4096)...) },
	} {
		s, err := Open(t.Context(), Config{Dir: put(t, damage(bytes.Clone(whole)))})
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: opened with %v, want ErrDamaged", name, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
}

func TestF29FlippedByteAnywhereIsNoPanicAndNoLie(t *testing.T) {
	t.Parallel()
	whole, _ := filled(t, 120, "audit")
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range rounds {
		bad := bytes.Clone(whole)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		s, err := Open(t.Context(), Config{Dir: put(t, bad)})
		if err != nil {
			found++
			continue
		}
		rep, err := s.VerifyAudit(t.Context(), nil)
		_, _ = s.Orders(t.Context(), bridge.OrderFilter{Host: "ws1"})
		_, _ = s.Audit(t.Context(), AuditFilter{Host: "ws1"})
		cerr := s.Check(t.Context())
		if err != nil || rep.FirstBad > 0 || cerr != nil {
			found++
		}
		if (err != nil || rep.FirstBad > 0) && cerr == nil {
			t.Errorf("byte %d: verify says %+v, %v, check says nothing", at, rep, err)
		}
		_ = s.Close() // it may fail on such a file
	}
	// The rest lies in unused space of pages, of which a small store has more than half.
	if found < rounds/5 {
		t.Errorf("%d of %d flips were found", found, rounds)
	}
}

func TestF29SetAsideMakesRoomForAFreshStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 5, 6, 9, 8, 9, 0, time.FixedZone("x", 2*3600))
	if _, err := SetAside(dir, now); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("set aside nothing: %v, want os.ErrNotExist", err)
	}
	s := openTest(t, Config{Dir: dir})
	admitTest(t, s, numbered(t, 1))
	unlock, err := s.LockInstance()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SetAside(dir, now); !errors.Is(err, ErrLocked) {
		t.Errorf("set aside under a running bridge: %v, want ErrLocked", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	// The log is not moved into the file before: as after a crash.
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(s.Path() + suffix); err != nil {
			t.Fatal(err)
		}
	}
	moved, err := SetAside(dir, now)
	if want := filepath.Join(dir, FileName+".2026-05-06T070809Z"); moved != want || err != nil {
		t.Fatalf("moved to %s, %v, want %s", moved, err, want)
	}
	fresh := openTest(t, Config{Dir: dir})
	if n := len(states(t, fresh)); n != 0 {
		t.Errorf("%d orders in the fresh store", n)
	}
	if _, err := SetAside(dir, now); err == nil {
		t.Error("a store that was set aside was written over")
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Rename(moved+suffix, filepath.Join(old, FileName+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(states(t, openTest(t, Config{Dir: old}))); n != 1 {
		t.Errorf("%d orders in the one that was set aside, want 1", n)
	}
}

func TestF29OrderChangedInTheFileIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"nothing":    ``,
		"its host":   `UPDATE orders SET host = 'dc1' WHERE id = '%s'`,
		"its task":   `UPDATE orders SET task = 'deleteFile' WHERE id = '%s'`,
		"its params": `UPDATE orders SET params = replace(params, '/', '/x') WHERE id = '%s'`,
		"its rule":   `UPDATE orders SET rule = NULL WHERE id = '%s'`,
		"its actor":  `UPDATE orders SET actor = 'cli:root' WHERE id = '%s'`,
	} {
		s := openTest(t, Config{})
		o := numbered(t, 1)
		o.Task = bridge.TerminateProcess{Path: "/tmp/a"}
		o = admitTest(t, s, o)[0]
		moveTest(t, s, admitTest(t, s, numbered(t, 2))[0], bridge.StateFailed)
		if sql != "" {
			tamper(t, s, fmt.Sprintf(sql, o.ID))
		}
		err := s.CheckUnfinished(t.Context())
		if (sql == "") != (err == nil) || sql != "" && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), o.ID)) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}
