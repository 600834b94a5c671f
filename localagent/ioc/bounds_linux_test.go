package ioc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

func TestF45LinksLoopsFIFOsAndDevicesDoNotStopAScan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := write(t, t.TempDir()+"/evil", "evil")
	write(t, dir+"/a/evil", "evil")
	for name, to := range map[string]string{"a/loop": "..", "self": "self", "out": outside, "outdir": filepath.Dir(outside), "proc": "/proc/self", "zero": "/dev/zero"} {
		if err := os.Symlink(to, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	others := int64(1)
	if os.Geteuid() == 0 {
		if err := unix.Mknod(dir+"/zero-device", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err == nil {
			others++
		}
	}
	m, _, _ := sums("evil")
	q, _ := query(t, v10("d", either(item("FileItem/Md5sum is "+m))))
	r := scanned(t, q, Config{}, dir)
	if got := paths(r); !slices.Equal(got, []string{dir + "/a/evil"}) {
		t.Errorf("files %v", got)
	}
	if skippedCount(r, whyLink) != 6 || skippedCount(r, whyOther) != others || r.Counts.Files != 1 {
		t.Errorf("skipped %+v of %+v", r.Skipped, r.Counts)
	}
}

func TestF45RootsThatAreNoPlacesOfFilesAreSkipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(dir, dir+"/link"), os.Symlink("/usr", dir+"/via")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	evil := write(t, dir+"/evil", "evil")
	q, _ := query(t, v10("d", either(item("FileItem/FileName is evil"))))
	r := scanned(t, q, Config{}, "/proc", "/proc/self", "/sys", "/dev/pts", dir+"/link", dir+"/via/sub", dir+"/fifo", dir+"/none", dir+"/evil")
	if got := paths(r); !slices.Equal(got, []string{evil}) {
		t.Errorf("files %v", got)
	}
	for why, want := range map[string]int64{whyRootOther: 5, whyRootLink: 2, whyNotThere: 1} {
		if got := skippedCount(r, why); got != want {
			t.Errorf("%s: %d, want %d (%+v)", why, got, want, r.Skipped)
		}
	}
	if err := r.Unseen(); err == nil || !strings.Contains(err.Error(), "4 of 5 folders could not be looked at") || r.Complete() {
		t.Errorf("unseen: %v, want the roots that were named and are no places of files", err)
	}
}

func TestF45AHugeTreeEndsWithItsBudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 40 {
		for k := range 25 {
			write(t, fmt.Sprintf("%s/%02d/%02d", dir, i, k), "12345678")
		}
	}
	m, _, _ := sums("other")
	q, _ := query(t, v10("d", either(item("FileItem/Md5sum is "+m))))
	t.Run("names", func(t *testing.T) {
		r := scanned(t, q, Config{MaxFiles: 300}, dir)
		if r.Counts.Files == 0 || r.Counts.Files > 300 || r.Stopped != stoppedFiles || r.Complete() {
			t.Errorf("%+v, stopped %q", r.Counts, r.Stopped)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		r := scanned(t, q, Config{MaxBytes: 800, Workers: 1}, dir)
		if r.Counts.Bytes != 800 || r.Counts.Files != 1000 || skippedCount(r, whyBudget) != 900 {
			t.Errorf("%+v, skipped %+v", r.Counts, r.Skipped)
		}
	})
	t.Run("size", func(t *testing.T) {
		r := scanned(t, q, Config{MaxFile: 7}, dir)
		if r.Counts.Bytes != 0 || skippedCount(r, whyTooLarge) != 1000 || len(r.Skipped[0].Paths) != 16 {
			t.Errorf("%+v, skipped %+v", r.Counts, r.Skipped)
		}
	})
	t.Run("time", func(t *testing.T) {
		r := scanned(t, q, Config{MaxTime: 1}, dir)
		if r.Stopped != errTime.Error() || r.Complete() {
			t.Errorf("stopped %q", r.Stopped)
		}
	})
}

func TestF45ACancelledScanStopsAndSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A sparse file that would take minutes to hash.
	big, err := os.Create(dir + "/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(1<<40), big.Close()); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	m, _, _ := sums("evil")
	q, _ := query(t, v10("d", either(item("FileItem/Md5sum is "+m))))
	stopped := errors.New("stopped by a person")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg := Config{Scope: ScopeCustom, Roots: []string{dir}, MaxFile: 1 << 41, MaxBytes: 1 << 42}
	r, err := Scan(ctx, q, cfg, func(p Progress) {
		if p.Kind == KindFile {
			cancel(stopped)
		}
	})
	if v := verdict.Of(err); !errors.Is(err, stopped) || v.Class != bridge.Retry {
		t.Errorf("error %v (%v)", err, v.Class)
	}
	if r.Stopped != stopped.Error() || r.Complete() || r.Counts.Files != 1 || r.Ended.Before(r.Began) {
		t.Errorf("%+v, stopped %q", r.Counts, r.Stopped)
	}
	agenttest.Eventually(t, "the goroutines of the scan have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestACollectorThatHangsIsLeftBehind(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	var calls atomic.Int64
	now := func() time.Time {
		if calls.Add(1) == 2 { // by the collector, after the scan has asked when it began
			<-block
		}
		return time.Now()
	}
	q, _ := query(t, v10("d", either(item("SystemInfoItem/hostname contains x"))))
	r, err := Scan(t.Context(), q, Config{MaxTime: 50 * time.Millisecond, Now: now}, nil)
	if v := verdict.Of(err); err == nil || v.Class != bridge.Retry || r.Stopped != "the collector of SystemInfoItem hangs" || r.Ended.IsZero() || len(r.Matches) != 0 {
		t.Errorf("got %+v, %v: want the collector that hangs as an error", r, err)
	}
}

func TestTablesOfLoginsThatAreFIFOsHoldNothingUp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lastlog", "wtmp"} {
		h := host{root: t.TempDir()}
		if err := errors.Join(os.MkdirAll(h.path("/var/log"), 0o755), unix.Mkfifo(h.path("/var/log/"+name), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := lastLogins(h, nil); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: %v, want that it is no regular file", name, err)
		}
	}
}
