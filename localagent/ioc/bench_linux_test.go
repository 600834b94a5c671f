package ioc

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	benchFiles = 5000
	benchSize  = 16 << 10
)

// benchTree makes files of 16 KiB in 100 folders.
func benchTree(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	content := strings.Repeat("0123456789abcdef", benchSize/16)
	for i := range benchFiles {
		write(b, fmt.Sprintf("%s/folder-%02d/some-program-%04d.bin", dir, i%100, i), fmt.Sprintf("%08d", i)+content[8:])
	}
	return dir
}

// benchQuery is 100 documents; with digests they hold 2,000 of them, 1,000 of each kind.
func benchQuery(b *testing.B, digests bool) *Query {
	b.Helper()
	var documents []string
	for i := range 100 {
		lines := []string{
			fmt.Sprintf("FileItem/FileName is evil-%d.exe", i), fmt.Sprintf("FileItem/FullPath contains /hidden-%d/", i),
			fmt.Sprintf("FileItem/FilePath is /opt/backdoor-%d", i),
		}
		for k := range 10 {
			if digests {
				lines = append(lines, fmt.Sprintf("FileItem/Md5sum is %x", md5.Sum(fmt.Appendf(nil, "%d-%d", i, k))),
					fmt.Sprintf("FileItem/Sha256sum is %x", sha256.Sum256(fmt.Appendf(nil, "%d-%d", i, k))))
			}
		}
		documents = append(documents, v10(fmt.Sprint(i), either(items(lines...),
			all(items("FileItem/FileExtension is exe", fmt.Sprintf("FileItem/SizeInBytes is %d TO %d", 100+i, 1000+i))))))
	}
	q, report := query(b, documents...)
	if report.UnsupportedTotal != 0 {
		b.Fatal(report.Unsupported)
	}
	return q
}

// perFile reports files per second and, because the machine may be busy with other work, the time of the processor per file.
func perFile(b *testing.B, begun time.Duration) {
	b.Helper()
	files := float64(benchFiles) * float64(b.N)
	b.ReportMetric(files/b.Elapsed().Seconds(), "files/s")
	b.ReportMetric(float64(processor(b)-begun)/1e3/files, "cpu-µs/file")
}

// processor is how long this program has run on a processor.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchScan(b *testing.B, q *Query) {
	dir := benchTree(b)
	begun := processor(b)
	for b.Loop() {
		r, err := Scan(context.Background(), q, Config{Scope: ScopeCustom, Roots: []string{dir}, Eager: true}, nil)
		if err != nil || r.Counts.Files != benchFiles || len(r.Matches) != 0 {
			b.Fatal(r.Counts, err)
		}
	}
	perFile(b, begun)
}

// BenchmarkScanNames: 100 IOCs that need no file to be read.
func BenchmarkScanNames(b *testing.B) { benchScan(b, benchQuery(b, false)) }

// BenchmarkScanDigests: 100 IOCs with 2,000 digests, so that every file is read and hashed twice over.
func BenchmarkScanDigests(b *testing.B) {
	b.SetBytes(benchFiles * benchSize)
	benchScan(b, benchQuery(b, true))
}

// BenchmarkBareNames is the limit of BenchmarkScanNames: to walk and look at each file, on one core.
func BenchmarkBareNames(b *testing.B) {
	dir := benchTree(b)
	begun := processor(b)
	for b.Loop() {
		n := 0
		if err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				_, err = e.Info()
				n++
			}
			return err
		}); err != nil || n != benchFiles {
			b.Fatal(n, err)
		}
	}
	perFile(b, begun)
}

// BenchmarkBareDigests is the limit of BenchmarkScanDigests: to read and hash each file, on one core.
func BenchmarkBareDigests(b *testing.B) {
	b.SetBytes(benchFiles * benchSize)
	dir := benchTree(b)
	begun := processor(b)
	for b.Loop() {
		n := 0
		if err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(name)
			if m, s := md5.Sum(content), sha256.Sum256(content); err == nil && m[0] != s[31] || m[1] != s[30] {
				n++
			}
			return err
		}); err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
	perFile(b, begun)
}

// BenchmarkReadAndCompile: 100 IOCs with 2,000 digests from the archive to the query.
func BenchmarkReadAndCompile(b *testing.B) {
	var entries []entryOf
	for i := range 100 {
		var lines []string
		for k := range 20 {
			lines = append(lines, fmt.Sprintf("FileItem/Sha256sum is %x", sha256.Sum256(fmt.Appendf(nil, "%d-%d", i, k))))
		}
		entries = append(entries, entryOf{name: fmt.Sprintf("%d.ioc", i), text: v10(fmt.Sprint(i), either(items(lines...)))})
	}
	archive := pack(b, entries...)
	for b.Loop() {
		docs, err := Read(archive, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, report := Compile(docs); report.Terms != 2000 {
			b.Fatal(report.Terms)
		}
	}
}
