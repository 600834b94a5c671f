package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFullSpoolKeepsTheOldestAndCountsTheRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	kept := 0
	for i := range 3000 {
		err := o.put(fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 1000)))
		switch {
		case err == nil && kept == i:
			kept++
		case err == nil:
			t.Fatalf("alert %d found room after %d had not", i, kept)
		case !errors.Is(err, errNoRoom):
			t.Fatal(err)
		}
	}
	if kept < 800 || kept > 1024 {
		t.Errorf("%d alerts of 1 KB in a spool of 1 MiB", kept)
	}
	if n, lost, _, _ := o.waits(); n != kept || lost != uint64(3000-kept) || (o.lost-o.told) != lost {
		t.Errorf("%d wait, %d lost, %d untold", n, lost, (o.lost - o.told))
	}
	if size := folderSize(t, dir); size > minSpool {
		t.Errorf("the spool has %d bytes", size)
	}
	if got := o.drain(t); len(got) != kept || !strings.HasPrefix(got[0], "0 ") || !strings.HasPrefix(got[kept-1], fmt.Sprint(kept-1, " ")) {
		t.Errorf("%d alerts came", len(got))
	}
	if err := o.put([]byte("again")); err != nil {
		t.Errorf("no room after all were settled: %v", err)
	}
	if size := folderSize(t, dir); size > minSpool/segments*2 {
		t.Errorf("the empty spool has %d bytes", size)
	}
}

func folderSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func TestSpoolKeepsWhatWasNotSettledWhateverTheOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	var hands []*waiting
	for i := range 600 { // several files
		if err := o.put(fmt.Appendf(nil, "%04d %s", i, strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
		w, _ := o.take()
		hands = append(hands, w)
	}
	for i, w := range slices.Backward(hands) {
		if i%7 != 3 {
			if err := o.settle(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := o.close(); err != nil {
		t.Fatal(err)
	}
	again := box(t, dir, minSpool)
	var got []string
	for _, doc := range again.drain(t) {
		got = append(got, doc[:4])
	}
	var want []string
	for i := 3; i < 600; i += 7 {
		want = append(want, fmt.Sprintf("%04d", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("came again: %v\nwant %v", got, want)
	}
}

func TestOldAlertThatIsNotSettledBringsNoOtherBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	var hands []*waiting
	for i := range 12_000 { // several files
		if err := o.put(fmt.Appendf(nil, "%05d", i)); err != nil {
			t.Fatal(err)
		}
		w, _ := o.take()
		hands = append(hands, w)
	}
	// The last file has nothing of its own soon, but it is what settles the alerts of the others.
	for i, w := range slices.Backward(hands) {
		if i == 3 {
			continue
		}
		if err := o.settle(w); err != nil {
			t.Fatal(err)
		}
	}
	_ = o.close()
	if got := box(t, dir, minSpool).drain(t); len(got) != 1 || got[0] != "00003" {
		t.Errorf("%d alerts came again, want one", len(got))
	}
}

func TestSpoolWithAChangedByteDeliversNoChangedAlert(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	want := []string{"alert 0", "alert 1", "alert 2"}
	for _, doc := range want {
		if err := o.put([]byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
	_ = o.close()
	names, _ := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x20
		if err := os.WriteFile(names[0], changed, 0o600); err != nil {
			t.Fatal(err)
		}
		again := newOutbox("", nil, time.Now)
		if _, err := again.open(dir, minSpool); err != nil {
			t.Fatal(err)
		}
		if got := again.drain(t); !slices.Equal(got, want[:at/(len(whole)/3)]) {
			t.Fatalf("byte %d changed: %q", at, got)
		}
		_ = again.close()
	}
}

func TestSpoolCutInAnyByteLosesTheCutRecordOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	for i := range 3 {
		if err := o.put(fmt.Appendf(nil, "alert %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	_ = o.close()
	names, _ := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	size := len(whole) / 3
	for cut := range len(whole) {
		if err := os.WriteFile(names[0], whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := newOutbox("", nil, time.Now)
		damaged, err := again.open(dir, minSpool)
		if err != nil {
			t.Fatal(err)
		}
		if damaged != int64(cut%size) {
			t.Fatalf("cut at %d: %d bytes damaged", cut, damaged)
		}
		if err := again.put([]byte("new")); err != nil {
			t.Fatal(err)
		}
		_ = again.close()
		third := newOutbox("", nil, time.Now)
		if _, err := third.open(dir, minSpool); err != nil {
			t.Fatal(err)
		}
		if got := third.drain(t); len(got) != cut/size+1 || got[len(got)-1] != "new" {
			t.Fatalf("cut at %d: %q", cut, got)
		}
		_ = third.close()
	}
}

func TestSpoolThatFailsLetsTheSensorGoOn(t *testing.T) {
	t.Parallel()
	o := box(t, t.TempDir(), minSpool)
	if err := o.put([]byte("a")); err != nil {
		t.Fatal(err)
	}
	_ = o.spool.files[0].file.Close() // as a disk that went away
	if err := o.put([]byte("b")); err != nil {
		t.Fatal(err)
	}
	if _, _, disk, _ := o.waits(); disk == nil {
		t.Error("nothing says that the spool cannot be written")
	}
	if got := o.drain(t); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

func TestSecondSensorDoesNotShareTheSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := box(t, dir, minSpool)
	if _, err := newOutbox("", nil, time.Now).open(dir, minSpool); err == nil {
		t.Fatal("two have one spool")
	}
	_ = o.close()
	box(t, dir, minSpool)
}

func FuzzReadRecord(f *testing.F) {
	f.Add(record{recordAlert, 7, []byte("{}")}.append(nil))
	f.Add(record{kind: recordSettled, number: 7}.append(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size, ok := readRecord(b)
		if !ok {
			return
		}
		if again := r.append(nil); !bytes.Equal(again, b[:size]) {
			t.Fatalf("%x read and written again is %x", b[:size], again)
		}
	})
}
