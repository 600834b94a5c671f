package ioc

import (
	"context"
	"crypto/md5"  //nolint:gosec // indicators name files by MD5 and SHA-1; they identify here, they do not protect.
	"crypto/sha1" //nolint:gosec // see above
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// readChunk is how much is read between two looks at ctx.
const readChunk = 256 << 10

// errChanged says that a file changed while it was read.
var errChanged = errors.New("the file changed while it was read")

// algorithms is a set of digests.
type algorithms uint8

const (
	useMD5 algorithms = 1 << iota
	useSHA1
	useSHA256
)

func algorithmOf(s shape) algorithms {
	switch s {
	case md5sum:
		return useMD5
	case sha1sum:
		return useSHA1
	case sha256sum:
		return useSHA256
	default:
		return 0
	}
}

// digests are the lower-case hex digests of a file that are known.
type digests struct {
	have              algorithms
	md5, sha1, sha256 string
}

// reader hashes files with one buffer; it belongs to one goroutine.
type reader struct {
	buf               []byte
	md5, sha1, sha256 hash.Hash
}

func newReader() reader {
	return reader{buf: make([]byte, readChunk), md5: md5.New(), sha1: sha1.New(), sha256: sha256.New()} //nolint:gosec // see the imports
}

// hash reads the file from its beginning and adds the digests to d. It returns how it looked afterwards and how many
// bytes were read. A file that changed meanwhile has no digest.
func (r *reader) hash(ctx context.Context, f *os.File, want algorithms, limit int64, d *digests) (st files.Stat, n int64, err error) {
	before, err := files.StatOf(f)
	if err != nil {
		return files.Stat{}, 0, err
	}
	use := make([]hash.Hash, 0, 3)
	for _, a := range []struct {
		bit algorithms
		h   hash.Hash
	}{{useMD5, r.md5}, {useSHA1, r.sha1}, {useSHA256, r.sha256}} {
		if want&a.bit != 0 {
			a.h.Reset()
			use = append(use, a.h)
		}
	}
	for {
		if cause := context.Cause(ctx); cause != nil {
			return before, n, cause
		}
		got, err := f.ReadAt(r.buf, n)
		for _, h := range use {
			h.Write(r.buf[:got])
		}
		n += int64(got)
		if n > limit {
			return before, n, errChanged
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return before, n, err
		}
	}
	after, err := files.StatOf(f)
	if err != nil {
		return before, n, err
	}
	if n != after.Bytes || !sameContent(before, after) {
		return before, n, errChanged
	}
	d.have |= want
	if want&useMD5 != 0 {
		d.md5 = hex.EncodeToString(r.md5.Sum(nil))
	}
	if want&useSHA1 != 0 {
		d.sha1 = hex.EncodeToString(r.sha1.Sum(nil))
	}
	if want&useSHA256 != 0 {
		d.sha256 = hex.EncodeToString(r.sha256.Sum(nil))
	}
	return after, n, nil
}

// sameContent reports whether nothing says that the content changed between the two.
func sameContent(a, b files.Stat) bool {
	return a.ID == b.ID && a.Bytes == b.Bytes && a.Modified.Equal(b.Modified) && a.Changed.Equal(b.Changed)
}
