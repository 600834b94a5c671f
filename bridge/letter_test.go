package bridge_test

import (
	"regexp"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestLetterIDNamesSourceEntryAndDocument(t *testing.T) {
	t.Parallel()
	type letter struct{ source, entry, document string }
	seen := map[string]letter{}
	for _, l := range []letter{
		{"bus", "1-0", "{}"},
		{"bus", "1-1", "{}"},
		{"legacy", "1-0", "{}"},
		{"bus", "1-0", "{ }"},
		{"bus", "", "1-0{}"},
		{"bus1", "-0", "{}"},
		{"", "bus1-0", "{}"},
		{"bus1-0", "", "{}"},
		{"", "", "bus1-0{}"},
		{"", "", ""},
		{"", "", "\x00"},
	} {
		id := bridge.LetterID(l.source, l.entry, []byte(l.document))
		if !regexp.MustCompile(`^l[0-9a-f]{24}$`).MatchString(id) {
			t.Errorf("id %q, want l and 24 hex digits", id)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%+v and %+v are one letter", l, other)
		}
		seen[id] = l
		if again := bridge.LetterID(l.source, l.entry, []byte(l.document)); again != id {
			t.Errorf("%+v is %s and %s", l, id, again)
		}
	}
}
