package vault

import (
	"context"
	"crypto/md5" //nolint:gosec // KSC's tasks name files by MD5; it identifies here, it does not protect.
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// blockChunks is how many chunks go through the pipeline together.
	blockChunks = 16
	blockSize   = blockChunks * chunkSize
	// depth is how many blocks wait before each stage; with the ones in work it bounds the memory of one copy to some 12 MiB.
	depth = 4
	// consumers of a block: MD5, SHA-256, and sealing.
	consumers = 3
)

// errGrown says that a file has more bytes than it had when it was looked at.
var errGrown = errors.New("the file grew beyond the limit while it was read")

// block is a part of the content on its way through the pipeline.
type block struct {
	data []byte
	last bool
	left atomic.Int32 // consumers that still read it
}

// pool recycles blocks: a file of 100 MiB needs a dozen, not a hundred.
type pool struct {
	free chan *block
	size int // of a block: whole chunks
}

// newPool makes blocks that fit a content of about size bytes.
func newPool(size int64) *pool {
	chunks := min(max(size, 0)/chunkSize+1, blockChunks)
	return &pool{free: make(chan *block, 2*depth), size: int(chunks) * chunkSize}
}

func (p *pool) get() *block {
	select {
	case b := <-p.free:
		return b
	default:
		return &block{data: make([]byte, p.size)}
	}
}

func (p *pool) put(b *block) {
	if b.left.Add(-1) == 0 {
		b.data = b.data[:p.size]
		select {
		case p.free <- b:
		default:
		}
	}
}

// source is a content that is read: about expect bytes, and at most limit.
type source struct {
	io.ReaderAt
	expect, limit int64
}

// sealTo copies in sealed into out and returns digests and size of what it read. Reading, each
// digest and sealing run side by side. It stops at the end of ctx.
func sealTo(ctx context.Context, in source, out *os.File, c *chunkCipher, salt []byte) (files.Digests, int64, error) {
	g, ctx := errgroup.WithContext(ctx)
	p := newPool(in.expect)
	var to [consumers]chan *block
	for i := range to {
		to[i] = make(chan *block, depth)
	}
	var size int64
	g.Go(func() (err error) {
		defer func() {
			for _, ch := range to {
				close(ch)
			}
		}()
		size, err = readBlocks(ctx, in, p, to[:])
		return err
	})
	m, s := md5.New(), sha256.New() //nolint:gosec // see the import
	g.Go(func() error { return digestBlocks(ctx, m, p, to[0]) })
	g.Go(func() error { return digestBlocks(ctx, s, p, to[1]) })
	g.Go(func() error { return sealBlocks(ctx, out, c, salt, p, to[2]) })
	if err := g.Wait(); err != nil {
		return files.Digests{}, 0, err
	}
	return files.Digests{MD5: hex.EncodeToString(m.Sum(nil)), SHA256: hex.EncodeToString(s.Sum(nil))}, size, nil
}

// readBlocks cuts in into blocks; the last one, and only that, may be short or empty.
func readBlocks(ctx context.Context, in source, p *pool, to []chan *block) (int64, error) {
	r := io.NewSectionReader(in, 0, in.limit+1)
	send := func(b *block) error {
		b.left.Store(int32(len(to))) //nolint:gosec // three
		for _, ch := range to {
			select {
			case ch <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	var size int64
	var held *block // until it is known whether another follows
	for {
		b := p.get()
		n, err := io.ReadFull(r, b.data)
		b.data, b.last = b.data[:n], false
		size += int64(n)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		switch {
		case err != nil && !end:
			return 0, fmt.Errorf("read: %w", err)
		case size > in.limit:
			return 0, errGrown
		case end && n == 0 && held != nil:
			held.last = true
			return size, send(held)
		}
		if held != nil {
			if err := send(held); err != nil {
				return 0, err
			}
		}
		if end {
			b.last = true
			return size, send(b)
		}
		held = b
	}
}

func digestBlocks(ctx context.Context, h hash.Hash, p *pool, from <-chan *block) error {
	for b := range from {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		h.Write(b.data)
		p.put(b)
	}
	return nil
}

func sealBlocks(ctx context.Context, out *os.File, c *chunkCipher, salt []byte, p *pool, from <-chan *block) error {
	if _, err := out.Write(append([]byte(blobMagic), salt...)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	buf := make([]byte, 0, p.size/chunkSize*sealedSize)
	var n uint64
	at := int64(headerSize)
	for b := range from {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		buf = buf[:0]
		data := b.data
		for first := true; first || len(data) > 0; first = false {
			chunk := data[:min(len(data), chunkSize)]
			data = data[len(chunk):]
			buf = c.seal(buf, chunk, n, b.last && len(data) == 0)
			n++
		}
		p.put(b)
		if _, err := out.Write(buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		startWriteback(out, at, int64(len(buf)))
		at += int64(len(buf))
	}
	return nil
}

// makeBlob seals the content of in into the fresh file at path, makes it durable and reads it back: what is in it by then can
// be opened.
func makeBlob(ctx context.Context, in source, path string, key []byte, id string) (_ files.Digests, _ int64, err error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt)
	c, err := newChunkCipher(key, salt, id)
	if err != nil {
		return files.Digests{}, 0, err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // below the vault's own folder
	if err != nil {
		return files.Digests{}, 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := reserve(out, sealedLen(in.expect)); err != nil {
		return files.Digests{}, 0, err
	}
	d, size, err := sealTo(ctx, in, out, c, salt)
	if err != nil {
		return files.Digests{}, 0, err
	}
	// A file that shrank leaves room that was reserved for it.
	if err := out.Truncate(sealedLen(size)); err != nil {
		return files.Digests{}, 0, fmt.Errorf("write: %w", err)
	}
	var g errgroup.Group
	g.Go(func() error { return out.Sync() })
	g.Go(func() error { return verifyBlob(ctx, out, size, c) })
	return d, size, g.Wait()
}

// verifyBlob opens every chunk of the blob of a content of size bytes, on two goroutines.
func verifyBlob(ctx context.Context, r io.ReaderAt, size int64, c *chunkCipher) error {
	const workers = 2
	total := max((size+chunkSize-1)/chunkSize, 1)
	end := sealedLen(size)
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			sealed, plain := make([]byte, min(blockChunks, total)*sealedSize), make([]byte, 0, chunkSize)
			for first := next.Add(blockChunks) - blockChunks; first < total; first = next.Add(blockChunks) - blockChunks {
				if cause := context.Cause(ctx); cause != nil {
					return cause
				}
				at := int64(headerSize) + first*sealedSize
				part := sealed[:min(end-at, int64(len(sealed)))]
				if _, err := r.ReadAt(part, at); err != nil {
					return fmt.Errorf("read back: %w", err)
				}
				for n := first; len(part) > 0; n++ {
					chunk := part[:min(len(part), sealedSize)]
					part = part[len(chunk):]
					if _, err := c.open(plain, chunk, uint64(n), n == total-1); err != nil { //nolint:gosec // chunks are counted from 0
						return fmt.Errorf("read back: %w", err)
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// digestOf reads the open file once for both digests, on two goroutines.
func digestOf(ctx context.Context, in io.ReaderAt, limit int64) (files.Digests, int64, error) {
	g, ctx := errgroup.WithContext(ctx)
	p := newPool(limit)
	to := []chan *block{make(chan *block, depth), make(chan *block, depth)}
	var size int64
	g.Go(func() (err error) {
		defer func() {
			close(to[0])
			close(to[1])
		}()
		size, err = readBlocks(ctx, source{in, limit, limit}, p, to)
		return err
	})
	m, s := md5.New(), sha256.New() //nolint:gosec // see the import
	g.Go(func() error { return digestBlocks(ctx, m, p, to[0]) })
	g.Go(func() error { return digestBlocks(ctx, s, p, to[1]) })
	if err := g.Wait(); err != nil {
		return files.Digests{}, 0, err
	}
	return files.Digests{MD5: hex.EncodeToString(m.Sum(nil)), SHA256: hex.EncodeToString(s.Sum(nil))}, size, nil
}
