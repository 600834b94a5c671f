package ioc

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// termset is a set of terms of one document, by their numbers.
type termset []uint64

func newTermset(n int) termset { return make(termset, (n+63)/64) }

func (s termset) set(i int) { s[i/64] |= 1 << (i % 64) }

func (s termset) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

func (s termset) clone() termset { return slices.Clone(s) }

// add makes s the union of both; other may be nil.
func (s termset) add(other termset) {
	for i, w := range other {
		s[i] |= w
	}
}

func (s termset) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// each calls f with every number in the set.
func (s termset) each(f func(i int)) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			f(i*64 + bits.TrailingZeros64(w))
		}
	}
}

// key makes equal sets equal as keys of a map.
func (s termset) key() string {
	b := make([]byte, 0, 8*len(s))
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return string(b)
}
