package callout

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	argsMD5Length    = 32
	argsSHA1Length   = 40
	argsSHA256Length = 64
)

// argsDigests are what one value says about a file; lower-case hex or empty.
type argsDigests struct{ md5, sha256 string }

// argsReadDigests takes one digest, told by its length, "sha256:…", or a list as in the Hashes field of Sysmon
// ("MD5=…,SHA256=…,IMPHASH=…"). Of a list the algorithms KSC does not take are left out.
func argsReadDigests(value string) (argsDigests, error) {
	var d argsDigests
	others := ""
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		label, digest := "", item
		if i := strings.IndexAny(item, "=:"); i >= 0 {
			label, digest = argsLoose(item[:i]), strings.TrimSpace(item[i+1:])
		}
		if label == "" {
			var err error
			if label, err = argsDigestByLength(digest); err != nil {
				return d, err
			}
		}
		var slot *string
		length := argsMD5Length
		switch {
		case label == "md5":
			slot = &d.md5
		case label == "sha256":
			slot, length = &d.sha256, argsSHA256Length
		case slices.Contains([]string{"sha1", "sha224", "sha384", "sha512", "imphash", "ssdeep", "tlsh", "authentihash"}, label):
			others = label
			continue
		default:
			return d, fmt.Errorf("holds a digest of an unknown kind %s", Excerpt(label))
		}
		if argsEmpty(digest) {
			continue
		}
		if len(digest) != length {
			return d, fmt.Errorf("holds %d characters where %s has %d hex digits", len(digest), label, length)
		}
		if _, err := hex.DecodeString(digest); err != nil {
			return d, errors.New("holds more than hex digits")
		}
		digest = strings.ToLower(digest)
		if *slot != "" && *slot != digest {
			return d, fmt.Errorf("holds two different digests of kind %s", label)
		}
		*slot = digest
	}
	if d == (argsDigests{}) {
		if others != "" {
			return d, fmt.Errorf("holds only %s, want md5 or sha256", others)
		}
		return d, errors.New("holds no digest")
	}
	return d, nil
}

func argsDigestByLength(digest string) (string, error) {
	switch len(digest) {
	case argsMD5Length:
		return "md5", nil
	case argsSHA256Length:
		return "sha256", nil
	case argsSHA1Length:
		return "", errors.New("looks like a SHA-1, which KSC does not take")
	default:
		return "", fmt.Errorf("holds %d characters: an md5 has %d hex digits, a sha256 %d", len(digest), argsMD5Length, argsSHA256Length)
	}
}

// digests reads the three options of one file. A given option has to yield the digest it is named for; --hash takes either.
// "" counts as not given where the vendor's parameters may be empty, with a warning, because it is also what a quoted empty
// template leaves; needed says that the task cannot do without.
func (p *argsParser) digests(needed bool) argsDigests {
	var all argsDigests
	for _, option := range []string{optMD5, optSHA256, optHash} {
		if words := p.line.words[option]; !needed && !words.cut && len(words.list) == 1 && words.list[0] == "" {
			p.warnings = append(p.warnings, "--"+option+" came empty and was left out"+argsAdvice(": if a field stands there, add ", option, p.kind))
			continue
		}
		word, ok := p.one(option)
		if !ok {
			continue
		}
		found, err := argsReadDigests(word)
		if err != nil {
			p.fail(option, Excerpt(word), "--"+option+" "+err.Error(), "")
			continue
		}
		switch {
		case option == optMD5 && found.md5 == "":
			p.fail(option, Excerpt(word), "--"+option+" holds a sha256", "write --hash, which takes either")
			continue
		case option == optSHA256 && found.sha256 == "":
			p.fail(option, Excerpt(word), "--"+option+" holds an md5", "write --hash, which takes either")
			continue
		case option == optMD5:
			found.sha256 = ""
		case option == optSHA256:
			found.md5 = ""
		}
		if all.md5 != "" && found.md5 != "" || all.sha256 != "" && found.sha256 != "" {
			p.fail(option, "", "--"+option+" gives a digest that another option gives too", "give it once")
			continue
		}
		all.md5, all.sha256 = all.md5+found.md5, all.sha256+found.sha256
	}
	return all
}
