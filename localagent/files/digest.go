package files

import (
	"context"
	"crypto/md5" //nolint:gosec // KSC's task names images by MD5; it identifies here, it does not protect.
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
)

const (
	// maxImage bounds what is read to hash one image.
	maxImage = 4 << 30
	// digestChunk is how much is read between two looks at ctx.
	digestChunk = 1 << 20
	// digestTries is how often a file is read that keeps changing. To unlink an image or to take a link of it away
	// changes its ctime, not its content, and package managers do it while the image runs.
	digestTries = 3
	// maxDigests bounds the cache; a host runs a few hundred images.
	maxDigests = 4096
)

// Digests are the lower-case hex digests of a file; what was not asked for may be empty.
type Digests struct {
	MD5, SHA256 string
}

// Cache remembers digests by the identity of the file. Its zero value is ready; it is safe for many goroutines.
type Cache struct {
	// mu guards known.
	mu    sync.Mutex
	known map[Key]Digests
}

// ErrChanged says that a file changed while it was hashed.
var ErrChanged = errors.New("the file changed while it was read")

// Of returns the digests of the open file. It reads the file when they are not known, which takes about 2 ms
// a MiB. A file that changes meanwhile is read again, digestTries times in all.
func (c *Cache) Of(ctx context.Context, f *os.File, wantMD5, wantSHA256 bool) (Digests, error) {
	for try := 1; ; try++ {
		d, err := c.read(ctx, f, wantMD5, wantSHA256)
		if !errors.Is(err, ErrChanged) || try == digestTries {
			return d, err
		}
	}
}

// read is one try of Of.
func (c *Cache) read(ctx context.Context, f *os.File, wantMD5, wantSHA256 bool) (Digests, error) {
	key, size, err := KeyOf(f)
	if err != nil {
		return Digests{}, err
	}
	c.mu.Lock()
	d := c.known[key]
	c.mu.Unlock()
	wantMD5, wantSHA256 = wantMD5 && d.MD5 == "", wantSHA256 && d.SHA256 == ""
	if !wantMD5 && !wantSHA256 {
		return d, nil
	}
	if size > maxImage {
		return Digests{}, fmt.Errorf("%d bytes are too many to hash, the limit is %d", size, int64(maxImage))
	}
	fresh, err := hashFile(ctx, f, wantMD5, wantSHA256)
	if err != nil {
		return Digests{}, err
	}
	after, _, err := KeyOf(f)
	if err != nil {
		return Digests{}, err
	}
	if after != key {
		return Digests{}, ErrChanged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxDigests {
		c.known = make(map[Key]Digests)
	}
	d = c.known[key]
	if fresh.MD5 != "" {
		d.MD5 = fresh.MD5
	}
	if fresh.SHA256 != "" {
		d.SHA256 = fresh.SHA256
	}
	c.known[key] = d
	return d, nil
}

func hashFile(ctx context.Context, f *os.File, wantMD5, wantSHA256 bool) (Digests, error) {
	var m, s hash.Hash
	var to []io.Writer
	if wantMD5 {
		m = md5.New() //nolint:gosec // see the import
		to = append(to, m)
	}
	if wantSHA256 {
		s = sha256.New()
		to = append(to, s)
	}
	w := io.MultiWriter(to...)
	in := io.NewSectionReader(f, 0, maxImage+1)
	for {
		if cause := context.Cause(ctx); cause != nil {
			return Digests{}, cause
		}
		_, err := io.CopyN(w, in, digestChunk)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Digests{}, fmt.Errorf("read: %w", err)
		}
	}
	var d Digests
	if m != nil {
		d.MD5 = hex.EncodeToString(m.Sum(nil))
	}
	if s != nil {
		d.SHA256 = hex.EncodeToString(s.Sum(nil))
	}
	return d, nil
}
