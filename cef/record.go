package cef

import "strings"

// Record is one line. The zero value is a line of version 0 with empty fields and no extension.
type Record struct {
	// Version is the version of the format, 0 or 1.
	Version int
	// Vendor, Product and DeviceVersion name the product that wrote the line, ClassID the kind of event and Name what it is for
	// people. All are as the product writes them and may be empty.
	Vendor, Product, DeviceVersion, ClassID, Name string
	// Severity is "0" to "10", or "Unknown", "Low", "Medium", "High", "Very-High", or whatever the product writes.
	Severity string
	// Extension holds the pairs in the order of the line; no key stands in it twice.
	Extension []Pair
}

// Pair is one key of the extension with its value. The value is unescaped, has no spaces at its ends and is empty where the line
// has "key=" and nothing after it.
type Pair struct {
	Key, Value string
}

// Get returns the value of key and whether the line has the key; its value may be empty. Case matters.
func (r Record) Get(key string) (string, bool) {
	for i := range r.Extension {
		if r.Extension[i].Key == key {
			return r.Extension[i].Value, true
		}
	}
	return "", false
}

// labelSuffix ends the key that names another key: cs1Label says what cs1 is.
const labelSuffix = "Label"

// Labelled returns the value of the custom key whose label is label: with "cs4Label=processSha1 cs4=ab12" the value of processSha1
// is ab12. It serves cs1, cn1, c6a1, cfp1, flexString1, deviceCustomDate1 and every other key K that has a KLabel. A label that is
// equal in all letters wins over one that differs in their case. It answers false where no label fits, where several fit equally
// well, and where the key it names is not in the line.
func (r Record) Labelled(label string) (string, bool) {
	exact, folded := -1, -1
	exacts, foldeds := 0, 0
	for i := range r.Extension {
		p := &r.Extension[i]
		if len(p.Key) == len(labelSuffix) || !strings.HasSuffix(p.Key, labelSuffix) {
			continue
		}
		switch {
		case p.Value == label:
			exact = i
			exacts++
		case strings.EqualFold(p.Value, label):
			folded = i
			foldeds++
		}
	}
	switch {
	case exacts == 1:
		return r.Get(strings.TrimSuffix(r.Extension[exact].Key, labelSuffix))
	case exacts == 0 && foldeds == 1:
		return r.Get(strings.TrimSuffix(r.Extension[folded].Key, labelSuffix))
	default:
		return "", false
	}
}
