package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// figures are what a running process takes.
type figures struct {
	rss float64 // MiB
	fds int
}

// figuresOf reads them from /proc; zero where there is none.
func figuresOf(pid int) figures {
	var f figures
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return f
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	f.rss = kib / 1024
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		f.fds = len(open)
	}
	return f
}

// watch knows which bridge runs and keeps the figures of those that were left in peace.
type watch struct {
	mu   sync.Mutex // guards pid and calm
	pid  int
	calm []figures
}

func (w *watch) set(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pid = pid
}

func (w *watch) now() figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return figuresOf(w.pid)
}

func (w *watch) keep(f figures) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calm = append(w.calm, f)
}

// flat is how far figures may be from the first ones after the warm-up.
const flat = 0.05

// report compares the figures of the calm runs; the first one is the warm-up. It writes nothing when there are too few.
func (w *watch) report(to io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calm) < 3 {
		return
	}
	first, last := w.calm[1], w.calm[len(w.calm)-1]
	word := "flat"
	rss, fds := change(first.rss, last.rss), change(float64(first.fds), float64(last.fds))
	if max(rss, -rss) > flat || max(fds, -fds) > flat {
		word = "not flat"
	}
	_, _ = fmt.Fprintf(to, "figures after warm-up, %d runs of %s: rss %.1f → %.1f MiB (%+.1f %%), descriptors %d → %d (%+.1f %%): %s\n",
		len(w.calm)-1, calmFor, first.rss, last.rss, 100*rss, first.fds, last.fds, 100*fds, word)
}

func change(from, to float64) float64 {
	if from == 0 {
		return 0
	}
	return to/from - 1
}

// progress writes a line every ten seconds until done is closed.
func progress(to io.Writer, done <-chan struct{}, line func() string) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			_, _ = fmt.Fprintln(to, line())
		}
	}
}
