package callout

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSpoolChild is not a test: it is the writer that TestKilledWritersLeaveWholeCallsOrNone kills.
func TestSpoolChild(t *testing.T) {
	dir := os.Getenv("KUMA_SPOOL_CHILD")
	if dir == "" {
		return
	}
	named := os.Getenv("KUMA_SPOOL_NAMED") != ""
	for {
		c := newCall(1)
		c.ID, c.At = NewCallID(), time.Now().UTC()
		c.Reason = strings.Repeat("r", 1+rand.IntN(1000))
		err := Spool(dir, SpoolLimits{}, c)
		if named {
			err = spoolNamed(dir, c)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("kept", c.ID)
	}
}

func spoolNamed(dir string, c Call) error {
	doc, err := c.MarshalJSON()
	if err != nil {
		return err
	}
	d, err := OpenSpool(dir)
	if err != nil {
		return err
	}
	name := SpoolName{c.At.UnixNano() + 1, c.ID, int64(len(doc))}
	return errors.Join(d.writeNamed(name.String(), doc), d.Close())
}

// TestKilledWritersLeaveWholeCallsOrNone kills writers in the middle of their work and looks at every file.
func TestKilledWritersLeaveWholeCallsOrNone(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts many processes")
	}
	for _, named := range []string{"", "1"} {
		dir := newSpool(t)
		kept := map[string]bool{}
		for range 25 {
			for _, id := range killedWriter(t, dir, named) {
				kept[id] = true
			}
		}
		d, err := OpenSpool(dir)
		if err != nil {
			t.Fatal(err)
		}
		whole, unfinished := 0, 0
		for _, name := range spoolNames(t, dir) {
			n, ok := ParseSpoolName(name)
			if !ok {
				unfinished++
				if named == "" || !strings.HasPrefix(name, SpoolTemp) {
					t.Errorf("a killed writer left %s", name)
				}
				continue
			}
			doc, err := d.Read(name, n, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if c, err := DecodeCall(doc); err != nil || c.ID != n.ID {
				t.Errorf("%s: %v", name, err)
			}
			delete(kept, n.ID)
			whole++
		}
		if len(kept) != 0 {
			t.Errorf("%d calls were reported as kept and are gone", len(kept))
		}
		t.Logf("%d whole calls, %d unfinished files", whole, unfinished)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// killedWriter starts a writer, kills it after a random time and returns what it said to have kept.
func killedWriter(t *testing.T, dir, named string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSpoolChild$")
	cmd.Env = append(os.Environ(), "KUMA_SPOOL_CHILD="+dir, "KUMA_SPOOL_NAMED="+named)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	lines := bufio.NewScanner(out)
	after := 1 + rand.IntN(8)
	killed := false
	for lines.Scan() {
		id, ok := strings.CutPrefix(lines.Text(), "kept ")
		if !ok {
			t.Errorf("the writer says %q", lines.Text())
			continue
		}
		ids = append(ids, id)
		if len(ids) >= after && !killed {
			killed = true
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // anywhere within the next write
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	return ids
}
