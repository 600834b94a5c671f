package ioc

// uncollected says why a kind is not collected on this system, or nothing.
func uncollected(Kind) string { return "" }

// unknownHere reports whether a field has no value on this system.
func unknownHere(k Kind, field int) bool { return k == KindVolume && field == volumeLetter }
