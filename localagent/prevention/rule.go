package prevention

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// The digests of the empty file: a rule by one of them would be about every empty file.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Rule says which files are not executed: those that fulfil all of what is given.
type Rule struct {
	// ID is "p" and 24 hex digits, derived from digest, path and case: the same rule has the same id.
	ID string `json:"id"`
	// MD5 or SHA256 is the digest of the file in lower-case hex, or empty; never both.
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Path is the absolute path of the file, or empty. On Linux its folders are no links, and it is the path the kernel names the
	// file by: one of that path in a container counts, too.
	Path string `json:"path,omitempty"`
	// CaseSensitive compares the path by exact case.
	CaseSensitive bool `json:"case_sensitive,omitempty"`
	// Order is the id of the order that brought the rule, Added when.
	Order string    `json:"order"`
	Added time.Time `json:"added"`
}

// newRule reads the task. Errors are *verdict.Error.
func newRule(order string, t bridge.PreventExecution, now time.Time) (Rule, error) {
	r := Rule{Path: t.Path, CaseSensitive: t.CaseSensitive && t.Path != "", Order: order, Added: now.UTC().Truncate(time.Second)}
	if t.Path != "" {
		if err := bridge.CheckPath(t.Path); err != nil {
			return Rule{}, verdict.Refuse(bridge.ReasonInvalid, "params.path: %w", err)
		}
		if !filepath.IsAbs(t.Path) {
			return Rule{}, verdict.Refuse(bridge.ReasonInvalid, "params.path: %s is not a path of this system", verdict.Shown(t.Path))
		}
		r.Path = filepath.Clean(t.Path)
	}
	switch digest := strings.ToLower(t.Hash); len(digest) {
	case 0:
	case len(emptyMD5):
		r.MD5 = digest
	case len(emptySHA256):
		r.SHA256 = digest
	default:
		return Rule{}, verdict.Refuse(bridge.ReasonInvalid, "params.hash: has %d characters, want 32 (MD5) or 64 (SHA-256) hex digits", len(t.Hash))
	}
	if err := r.check(); err != nil {
		return Rule{}, verdict.Refuse(bridge.ReasonInvalid, "params.%w", err)
	}
	r.ID = r.id()
	return r, nil
}

// check reports what makes a rule unfit, whoever made it.
func (r *Rule) check() error {
	switch {
	case r.MD5 == "" && r.SHA256 == "" && r.Path == "":
		return errors.New("hash: required when no path is given")
	case r.MD5 != "" && r.SHA256 != "":
		return errors.New("hash: a rule has an MD5 or a SHA-256, not both")
	case r.MD5 == emptyMD5, r.SHA256 == emptySHA256:
		return errors.New("hash: is the digest of the empty file, which fits every empty file and no program")
	}
	for _, d := range []struct {
		text string
		want int
	}{{r.MD5, len(emptyMD5)}, {r.SHA256, len(emptySHA256)}} {
		if _, err := hex.DecodeString(d.text); err != nil || d.text != "" && len(d.text) != d.want || d.text != strings.ToLower(d.text) {
			return fmt.Errorf("hash: %s is not %d lower-case hex digits", verdict.Shown(d.text), d.want)
		}
	}
	if r.Path == "" {
		return nil
	}
	if err := bridge.CheckPath(r.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path || filepath.Dir(r.Path) == r.Path {
		return fmt.Errorf("path: %s is not the whole path of a file", verdict.Shown(r.Path))
	}
	return nil
}

// id derives the id over length-prefixed fields, so that no two rules collide by concatenation.
func (r *Rule) id() string {
	exact := "any"
	path := r.Path
	if r.CaseSensitive {
		exact = "exact"
	} else {
		path = folded(path)
	}
	h := sha256.New()
	var n [8]byte
	for _, f := range []string{r.MD5, r.SHA256, path, exact} {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return "p" + hex.EncodeToString(h.Sum(nil)[:12])
}

// digest returns the digest of the rule, or "".
func (r *Rule) digest() string { return r.MD5 + r.SHA256 }

// folded brings a path into the form in which spellings that differ in case are equal. Through upper case first, so that ς and σ
// are one.
func folded(path string) string { return strings.ToLower(strings.ToUpper(path)) }

// String says for people what the rule is about.
func (r *Rule) String() string {
	what := "files"
	if r.Path != "" {
		what = verdict.Shown(r.Path)
		if !r.CaseSensitive {
			what += " in any case"
		}
	}
	switch {
	case r.SHA256 != "":
		what += " with the SHA-256 " + r.SHA256
	case r.MD5 != "":
		what += " with the MD5 " + r.MD5
	}
	return what
}
