package scan

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // signatures name files by MD5; it identifies here, it does not protect.
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// window is how much of a file is looked at in one go.
const window = 256 << 10

// builtin is the engine of this program: digests and byte patterns of a signatures file, and the EICAR test file.
// It looks into ZIP archives; everything else it takes as it is. It is safe for many goroutines.
type builtin struct {
	sigs  *signatures
	sieve *sieve
	// source and date describe the signatures file; source is empty without one.
	source string
	date   time.Time
	// scratch holds *lens.
	scratch sync.Pool
}

var _ Engine = (*builtin)(nil)

func newBuiltin(s *signatures, source string, date time.Time) *builtin {
	patterns := append([]pattern{{name: eicarName, offset: 0, bytes: eicar()}}, s.patterns...)
	b := &builtin{sigs: s, sieve: newSieve(patterns), source: source, date: date}
	b.scratch.New = func() any {
		return &lens{md5: md5.New(), sha256: sha256.New(), buf: make([]byte, b.sieve.longest-1+window)} //nolint:gosec // see the import
	}
	return b
}

// Info counts the signatures.
func (b *builtin) Info(context.Context) (EngineInfo, error) {
	info := EngineInfo{Name: "built-in", Version: "1", Signatures: strconv.Itoa(b.sigs.count()+1) + " signatures", Date: b.date}
	if b.source == "" {
		info.Signatures = "only the EICAR test file"
		info.Notes = append(info.Notes, "there is no signatures file: nothing but the EICAR test file is known")
	}
	return info, nil
}

// Scan reads the file once.
func (b *builtin) Scan(ctx context.Context, f *os.File, info FileInfo) (Verdict, error) {
	name, head, err := b.stream(ctx, io.NewSectionReader(f, 0, info.Size))
	if err != nil {
		return Verdict{}, err
	}
	if name != "" {
		return Verdict{State: Infected, Signature: name}, nil
	}
	if !looksZipped(f, info.Size, head) {
		return clean(), nil
	}
	a := &archive{engine: b, left: maxInflated, entries: maxEntries, certain: isZipHead(head)}
	return a.open(ctx, f, info.Size, nil)
}

// lens is what one stream needs; buf begins with the end of the window before.
type lens struct {
	md5, sha256 hash.Hash
	buf         []byte
}

// stream looks at everything r has; it returns the name of a signature or "", and the first bytes.
func (b *builtin) stream(ctx context.Context, r io.Reader) (name string, head [4]byte, err error) {
	l, _ := b.scratch.Get().(*lens)
	defer b.scratch.Put(l)
	l.md5.Reset()
	l.sha256.Reset()
	overlap := b.sieve.longest - 1
	kept := 0
	total := int64(0)
	for {
		if cause := context.Cause(ctx); cause != nil {
			return "", head, cause
		}
		n, err := io.ReadFull(r, l.buf[kept:kept+window])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return "", head, fmt.Errorf("read: %w", bare(err))
		}
		fresh := l.buf[kept : kept+n]
		if total == 0 {
			copy(head[:], fresh)
		}
		_, _ = l.md5.Write(fresh)
		_, _ = l.sha256.Write(fresh)
		seen := l.buf[:kept+n]
		if name := b.sieve.find(seen, total-int64(kept)); name != "" {
			return name, head, nil
		}
		total += int64(n)
		if last {
			return b.byDigest(l, total), head, nil
		}
		kept = copy(l.buf, seen[len(seen)-min(overlap, len(seen)):])
	}
}

func (b *builtin) byDigest(l *lens, size int64) string {
	if sig, ok := b.sigs.sha256[[32]byte(l.sha256.Sum(nil))]; ok && (sig.size == anywhere || sig.size == size) {
		return sig.name
	}
	if sig, ok := b.sigs.md5[[16]byte(l.md5.Sum(nil))]; ok && (sig.size == anywhere || sig.size == size) {
		return sig.name
	}
	return ""
}

// looksZipped reports whether a file may be a ZIP archive: it begins like one, or ends like one (programs that unpack
// themselves).
func looksZipped(r io.ReaderAt, size int64, head [4]byte) bool {
	if isZipHead(head) {
		return true
	}
	// The end of an archive is 22 bytes and a comment of up to 64 KiB.
	tail := make([]byte, min(size, 22+1<<16))
	n, _ := r.ReadAt(tail, size-int64(len(tail)))
	return bytes.Contains(tail[:n], []byte("PK\x05\x06"))
}

func isZipHead(head [4]byte) bool {
	return head == [4]byte{'P', 'K', 3, 4} || head == [4]byte{'P', 'K', 5, 6} || head == [4]byte{'P', 'K', 7, 8}
}
