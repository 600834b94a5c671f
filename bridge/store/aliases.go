package store

import "github.com/edr-bridge/edr-bridge/bridge"

// The words of listings are those of package bridge.
type (
	// Filter picks orders, see bridge.OrderFilter.
	Filter = bridge.OrderFilter
	// Page walks over a listing, see bridge.Page.
	Page = bridge.Page
)

// The errors of look-ups are those of package bridge.
var (
	// ErrNotFound is bridge.ErrNotFound.
	ErrNotFound = bridge.ErrNotFound
	// ErrAmbiguous is bridge.ErrAmbiguous.
	ErrAmbiguous = bridge.ErrAmbiguous
)
