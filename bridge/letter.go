package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// DeadLetter is a document nobody could read, kept as it came until a person retries or drops it.
type DeadLetter struct {
	// ID is "l" and 24 hex digits over source, entry and document: the same document refused twice is one letter.
	ID string
	// Source is the name of the source, Entry the transport's own id of the document (a stream entry id) or empty.
	Source, Entry string
	// Document is the original, byte for byte.
	Document []byte
	// Error says why it was refused; it may quote the document.
	Error string
	// Attempts is how often it was refused, First and Last when (UTC).
	Attempts    int
	First, Last time.Time
	// Retry is when a person asked for another attempt that has not been made yet, By who; zero = nobody did.
	Retry time.Time
	By    string
}

// LetterID derives the id of a dead letter.
func LetterID(source, entry string, document []byte) string {
	h := sha256.New()
	var n [8]byte
	for _, f := range [][]byte{[]byte(source), []byte(entry), document} {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write(f)
	}
	return "l" + hex.EncodeToString(h.Sum(nil)[:12])
}
