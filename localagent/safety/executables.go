package safety

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The digests of the empty file: a rule by them would be about every empty file and no program.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Executables are the programs and libraries that must never be denied execution, as they were found on this machine. It
// does not change and may be used by many goroutines.
type Executables struct {
	// byDigest holds lower-case MD5 and SHA-256 digests and why they are protected.
	byDigest map[string]string
	executablePlaces
}

// ByDigest returns ReasonNone when a rule may forbid files of the MD5 or SHA-256 digest (hex in any case), else the reason and
// the entry of the table in words.
func (x *Executables) ByDigest(digest string) (bridge.Reason, string) {
	if why, ok := x.byDigest[strings.ToLower(digest)]; ok {
		return bridge.ReasonProtectedPath, why
	}
	return bridge.ReasonNone, ""
}

// Len returns how many digests are protected, for tests and status lines.
func (x *Executables) Len() int { return len(x.byDigest) }

func newDigests() map[string]string {
	e := named(KindExecution, EmptyFile)
	return map[string]string{emptyMD5: e.text(), emptySHA256: e.text()}
}
