package ioc

import (
	"cmp"
	"errors"
	"fmt"
)

const (
	defaultArchive  = 6 << 20  // the most that bridge.EncodeIOC lets through
	defaultFile     = 2 << 20  // Kaspersky Endpoint Security, IOC file requirements (support.kaspersky.com/kes12/220828)
	defaultInflated = 10 << 20 // the same page, all files of a collection together
	defaultEntries  = 100
	defaultRatio    = 100 // OpenIOC text packs below 20 times
	defaultDepth    = 64
	defaultTerms    = 50_000
)

// Limits bound what Read accepts. A zero field means its default.
type Limits struct {
	// Archive is the size of the ZIP archive in bytes; 6 MiB.
	Archive int64
	// File is the size of one inflated document in bytes, Inflated of all together, as they really come out; 2 MiB and 10 MiB.
	File, Inflated int64
	// Entries is how many entries the archive has, folders included; 100.
	Entries int
	// Ratio is how many times its packed size an entry may inflate to; 100.
	Ratio int
	// Depth is how deep the elements of a document nest; 64, which is also the most.
	Depth int
	// Terms is how many terms and groups of terms all documents hold together; 50,000.
	Terms int
}

// check fills in the defaults.
func (l Limits) check() (Limits, error) {
	l.Archive, l.File, l.Inflated = cmp.Or(l.Archive, defaultArchive), cmp.Or(l.File, defaultFile), cmp.Or(l.Inflated, defaultInflated)
	l.Entries, l.Ratio = cmp.Or(l.Entries, defaultEntries), cmp.Or(l.Ratio, defaultRatio)
	l.Depth, l.Terms = cmp.Or(l.Depth, defaultDepth), cmp.Or(l.Terms, defaultTerms)
	if min(l.Archive, l.File, l.Inflated) < 0 || min(l.Entries, l.Ratio, l.Depth, l.Terms) < 0 {
		return l, errors.New("limits of IOC archives: none may be negative")
	}
	if l.Depth > defaultDepth {
		return l, fmt.Errorf("limits of IOC archives: depth %d is more than %d", l.Depth, defaultDepth)
	}
	return l, nil
}
