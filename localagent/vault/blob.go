package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// A blob is a header of 40 bytes, which are "EDRBLOB1" and a random salt, and the content in chunks of 64 KiB, each sealed by
// AES-256-GCM under a key derived from the vault's key, the salt and the id of the item (HKDF-SHA-256). The nonce counts the
// chunks, the additional data is 1 for the last chunk and 0 for the others. Every chunk but the last is full; an empty file has
// one empty chunk. So no chunk can be left out, added, moved or taken from another blob.
const (
	blobMagic  = "EDRBLOB1"
	saltSize   = 32
	headerSize = len(blobMagic) + saltSize
	chunkSize  = 64 << 10
	tagSize    = 16
	sealedSize = chunkSize + tagSize
)

// chunkCipher seals and opens the chunks of one blob. It is safe for many goroutines.
type chunkCipher struct {
	aead cipher.AEAD
}

func newChunkCipher(key, salt []byte, id string) (*chunkCipher, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, "edr-bridge quarantine blob 1 "+id, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &chunkCipher{aead}, nil
}

func (c *chunkCipher) seal(dst, chunk []byte, n uint64, last bool) []byte {
	nonce := chunkNonce(n)
	return c.aead.Seal(dst, nonce[:], chunk, lastFlag(last))
}

func (c *chunkCipher) open(dst, sealed []byte, n uint64, last bool) ([]byte, error) {
	nonce := chunkNonce(n)
	plain, err := c.aead.Open(dst, nonce[:], sealed, lastFlag(last))
	if err != nil {
		return nil, fmt.Errorf("chunk %d: %w", n, ErrDamaged)
	}
	return plain, nil
}

func chunkNonce(n uint64) (nonce [12]byte) {
	binary.BigEndian.PutUint64(nonce[4:], n)
	return nonce
}

func lastFlag(last bool) []byte {
	if last {
		return []byte{1}
	}
	return []byte{0}
}

// sealedLen is how long the blob of size bytes is.
func sealedLen(size int64) int64 {
	chunks := max((size+chunkSize-1)/chunkSize, 1)
	return int64(headerSize) + size + chunks*tagSize
}

// blobReader opens a blob chunk by chunk: what it returns is genuine, and io.EOF comes only after the chunk that was sealed as
// the last.
type blobReader struct {
	c      *chunkCipher
	r      io.ReaderAt
	at     int64 // of the next chunk
	size   int64 // of the blob
	n      uint64
	sealed []byte
	buf    []byte
	plain  []byte // what is left of the current chunk
}

// openBlob reads the header of the blob of an item; size is how long the blob is.
func openBlob(r io.ReaderAt, size int64, key []byte, id string) (*blobReader, error) {
	header := make([]byte, headerSize)
	if _, err := r.ReadAt(header, 0); err != nil {
		return nil, fmt.Errorf("header of the blob: %w: %w", ErrDamaged, err)
	}
	if string(header[:len(blobMagic)]) != blobMagic {
		return nil, fmt.Errorf("header of the blob: %w", ErrDamaged)
	}
	c, err := newChunkCipher(key, header[len(blobMagic):], id)
	if err != nil {
		return nil, err
	}
	return &blobReader{
		c: c, r: r, at: int64(headerSize), size: size, sealed: make([]byte, sealedSize), buf: make([]byte, 0, chunkSize),
	}, nil
}

// Read fills p with at most what is left of one chunk.
func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.plain) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.plain)
	b.plain = b.plain[n:]
	return n, nil
}

func (b *blobReader) next() error {
	if b.at == math.MaxInt64 {
		return io.EOF
	}
	length := min(b.size-b.at, sealedSize)
	if length < tagSize {
		return fmt.Errorf("chunk %d is missing: %w", b.n, ErrDamaged)
	}
	if _, err := b.r.ReadAt(b.sealed[:length], b.at); err != nil {
		return fmt.Errorf("chunk %d: %w: %w", b.n, ErrDamaged, err)
	}
	last := b.at+length == b.size
	plain, err := b.c.open(b.buf[:0], b.sealed[:length], b.n, last)
	if err != nil {
		return err
	}
	b.plain, b.n, b.at = plain, b.n+1, b.at+length
	if last {
		b.at = math.MaxInt64
	}
	return nil
}
