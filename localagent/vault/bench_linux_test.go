package vault

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// BenchmarkQuarantine seals, syncs, verifies and takes away a file of 100 MiB; in the same run the bare limit: copying it
// plainly and syncing the copy. Medians are reported in MB/s.
func BenchmarkQuarantine(b *testing.B) {
	const size = 100 << 20
	dir := b.TempDir()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	v := newVault(b, nil)
	var ours, bare []float64
	n := 0
	for b.Loop() {
		n++
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
		settle(b, path)
		start := time.Now()
		plainCopy(b, path, path+".copy")
		bare = append(bare, size/1e6/time.Since(start).Seconds())
		if err := os.Remove(path + ".copy"); err != nil {
			b.Fatal(err)
		}
		order := fmt.Sprint("o", n)
		start = time.Now()
		if _, err := v.QuarantineFile(b.Context(), order, bridge.QuarantineFile{Path: path}); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, size/1e6/time.Since(start).Seconds())
		if err := v.Drop(b.Context(), newID(order, bridge.KindQuarantineFile, path)); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(ours)
	slices.Sort(bare)
	b.ReportMetric(ours[len(ours)/2], "MB/s")
	b.ReportMetric(ours[0], "MB/s-min")
	b.ReportMetric(ours[len(ours)-1], "MB/s-max")
	b.ReportMetric(bare[len(bare)/2], "MB/s-cp+fsync")
}

// settle waits until the file is on the disk, so that nobody measures its writing.
func settle(b *testing.B, path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	_ = f.Close()
}

func plainCopy(b *testing.B, from, to string) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in}); err != nil {
		b.Fatal(err)
	}
	if err := out.Sync(); err != nil {
		b.Fatal(err)
	}
	_ = out.Close()
}

// BenchmarkDeleteOfASmallFile is what an order costs apart from its content; the folder is in memory, so syncs are free.
func BenchmarkDeleteOfASmallFile(b *testing.B) {
	v := newVault(b, func(c *Config) { c.Dir = memory(b) })
	path := filepath.Join(filepath.Dir(v.cfg.Dir), "file")
	for b.Loop() {
		write(b, path, "x")
		if _, err := v.DeleteFile(b.Context(), "o", bridge.DeleteFile{Path: path}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuarantineOfASmallFile is the same for a quarantine, on the disk.
func BenchmarkQuarantineOfASmallFile(b *testing.B) {
	v := newVault(b, nil)
	path := filepath.Join(b.TempDir(), "file")
	n := 0
	for b.Loop() {
		n++
		write(b, path, "x")
		order := fmt.Sprint("o", n)
		if _, err := v.QuarantineFile(b.Context(), order, bridge.QuarantineFile{Path: path}); err != nil {
			b.Fatal(err)
		}
		if err := v.Drop(b.Context(), newID(order, bridge.KindQuarantineFile, path)); err != nil {
			b.Fatal(err)
		}
	}
}
