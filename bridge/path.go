package bridge

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxPOSIXPath = 4095 // bytes: PATH_MAX of Linux without the NUL (limits.h)
	maxSegment   = 255  // UTF-16 units on NTFS, bytes on Linux (NAME_MAX)
	maxShown     = 160  // runes of foreign text in an error
)

// CheckPath reports why path does not name one certain place on a disk of the host: it must be absolute
// (C:\… or /…), without "..", wildcards, variables, device names, network shares, alternate data streams,
// trailing dots and spaces, control and bidi characters. Windows paths may use either separator.
// The host's system does not matter and neither does the bridge's: the verdict is the same everywhere.
// DOS 8.3 names are taken; the guards judge them.
func CheckPath(path string) error {
	if path == "" {
		return errors.New("is empty")
	}
	if len(path) > utf8.UTFMax*maxPathLength {
		return fmt.Errorf("is %d bytes long, longer than any system takes", len(path))
	}
	if err := checkText(path); err != nil {
		return err
	}
	switch {
	case hasDollarVariable(path):
		return errors.New("holds a variable, which nobody expands: write the whole path")
	case hasDrive(path):
		return checkWindowsPath(path)
	case strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//"):
		return checkPOSIXPath(path)
	default:
		return whyNotAbsolute(path)
	}
}

// NormalPath returns the form in which two spellings of one path are equal; it asks no disk. Windows paths
// come back in lower case with single backslashes and without \\?\, POSIX paths cleaned; "." and ".." are
// resolved by name. Use it to compare, never to open.
func NormalPath(path string) string {
	if !windowsLike(path) {
		return cleanPOSIX(path)
	}
	for {
		// Cleaning can bring a \\?\ to the front, hence again until nothing changes; it only ever shortens.
		next := normalWindows(path)
		if next == path {
			return path
		}
		path = next
	}
}

// BaseName returns the last segment of a Windows or POSIX path, or of a bare name, "" for a root.
func BaseName(path string) string {
	separators := "/"
	if windowsLike(path) {
		separators = `\/`
	}
	path = strings.TrimRight(path, separators)
	if i := strings.LastIndexAny(path, separators); i >= 0 {
		return path[i+1:]
	}
	if hasDrive(path) {
		return path[2:]
	}
	return path
}

// checkText refuses what no path, argument or name of ours holds and what deceives the reader of a log.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not valid UTF-8")
	}
	for i, r := range s {
		switch {
		case r == 0:
			return fmt.Errorf("holds a NUL at byte %d", i)
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return fmt.Errorf("holds the control character %U at byte %d", r, i)
		case unicode.Is(unicode.Bidi_Control, r), r == '\ufeff':
			return fmt.Errorf("holds the invisible character %U at byte %d", r, i)
		case r == utf8.RuneError:
			return fmt.Errorf("holds U+FFFD at byte %d, which stands for text lost on the way", i)
		}
	}
	return nil
}

func checkPOSIXPath(path string) error {
	if len(path) > maxPOSIXPath {
		return fmt.Errorf("is %d bytes long, allowed are %d", len(path), maxPOSIXPath)
	}
	if strings.Contains(path, `\`) {
		return errors.New(`mixes / and \: start a Windows path with its drive letter`)
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "..":
			return errors.New(`holds "..": write the path without detours`)
		case isShellVariable(segment):
			return errors.New("holds a variable, which nobody expands: write the whole path")
		case strings.ContainsAny(segment, "*?"):
			return fmt.Errorf("holds a wildcard in %s: name one file or folder", show(segment))
		case len(segment) > maxSegment:
			return fmt.Errorf("holds a name of %d bytes, allowed are %d", len(segment), maxSegment)
		}
	}
	return nil
}

func checkWindowsPath(path string) error {
	if n := utf16Len(path); n > maxPathLength {
		return fmt.Errorf("is %d UTF-16 units long, allowed are %d", n, maxPathLength)
	}
	if len(path) == 2 || path[2] != '\\' && path[2] != '/' {
		return errors.New(`has no separator after the drive letter: backslashes were lost on the way, double them or quote the word`)
	}
	if hasPercentVariable(path) {
		return errors.New("holds a variable, which nobody expands: write the whole path")
	}
	for segment := range strings.FieldsFuncSeq(path[2:], isWindowsSeparator) {
		if err := checkWindowsSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func checkWindowsSegment(segment string) error {
	device, _, _ := strings.Cut(segment, ".")
	switch {
	case segment == "..":
		return errors.New(`holds "..": write the path without detours`)
	case strings.Contains(segment, ":"):
		return fmt.Errorf("names an alternate data stream in %s: name the file", show(segment))
	case strings.ContainsAny(segment, `*?<>"`):
		// The kernel takes < > and " for wildcards too (FsRtlIsNameInExpression).
		return fmt.Errorf("holds a wildcard or quote in %s: name one file or folder", show(segment))
	case strings.Contains(segment, "|"):
		return fmt.Errorf("holds | in %s, which no Windows file name may", show(segment))
	case strings.HasSuffix(segment, "."), strings.HasSuffix(segment, " "):
		return fmt.Errorf("ends %s with a dot or space, which Windows drops: leave it out", show(segment))
	case isDeviceName(strings.TrimRight(device, " ")):
		return fmt.Errorf("names the device %s", show(segment))
	case utf16Len(segment) > maxSegment:
		return fmt.Errorf("holds a name of %d UTF-16 units, allowed are %d", utf16Len(segment), maxSegment)
	default:
		return nil
	}
}

func whyNotAbsolute(path string) error {
	slashes := strings.ReplaceAll(path, `\`, "/")
	switch {
	case strings.HasPrefix(slashes, "//?/"), strings.HasPrefix(slashes, "//./"), strings.HasPrefix(slashes, "/??/"):
		return errors.New(`is a device path (\\?\, \\.\): start it with the drive letter`)
	case strings.HasPrefix(slashes, "//"):
		return errors.New("is on a network share, which would make the host log in elsewhere: only local paths are taken")
	case strings.HasPrefix(path, `\`):
		return errors.New("has no drive letter: start it with one (C:\\…)")
	case strings.HasPrefix(path, "~"):
		return errors.New("starts with ~, which nobody expands: write the whole path")
	case strings.HasPrefix(path, "%"), strings.HasPrefix(path, "$"):
		return errors.New("starts with a variable, which nobody expands: write the whole path")
	case strings.Contains(path, "://"):
		return errors.New("is a URL: write the path on the host")
	default:
		return errors.New("is not absolute: start it with a drive letter (C:\\…) or /")
	}
}

func hasDrive(path string) bool {
	return len(path) >= 2 && path[1] == ':' && isLetter(path[0])
}

func windowsLike(path string) bool {
	return hasDrive(path) || !strings.HasPrefix(path, "/") && strings.Contains(path, `\`)
}

func isWindowsSeparator(r rune) bool { return r == '\\' || r == '/' }

func isLetter(c byte) bool { return 'a' <= c|' ' && c|' ' <= 'z' }

func cleanPOSIX(name string) string {
	if name == "" {
		return ""
	}
	return path.Clean(name)
}

func normalWindows(path string) string {
	path = strings.ReplaceAll(foldPath(path), "/", `\`)
	for _, prefix := range []string{`\\?\`, `\\.\`, `\??\`} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && hasDrive(rest) {
			path = rest
		} else if share, ok := strings.CutPrefix(rest, `unc\`); ok && rest != path {
			path = `\\` + share
		}
	}
	head := ""
	switch {
	case hasDrive(path):
		head, path = path[:2], path[2:]
	case strings.HasPrefix(path, `\\`):
		head = `\`
	}
	rooted := strings.HasPrefix(path, `\`)
	var kept []string
	for segment := range strings.FieldsFuncSeq(path, isWindowsSeparator) {
		switch {
		case segment == ".":
		case segment != "..":
			kept = append(kept, segment)
		case len(kept) > 0 && kept[len(kept)-1] != "..":
			kept = slices.Delete(kept, len(kept)-1, len(kept))
		case !rooted:
			kept = append(kept, segment)
		}
	}
	if rooted {
		head += `\`
	}
	return head + strings.Join(kept, `\`)
}

// foldPath brings letters into one case. Through upper case first, because Windows compares by upper case,
// where ς and σ are one.
func foldPath(s string) string {
	return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
}

func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// show quotes foreign text for an error: a readable text keeps its backslashes, another is escaped.
func show(s string) string {
	if runes := []rune(s[:min(len(s), utf8.UTFMax*(maxShown+1))]); len(runes) > maxShown {
		s = string(runes[:maxShown]) + "…"
	}
	for _, r := range s {
		if r == '"' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.QuoteToASCII(s)
		}
	}
	return `"` + s + `"`
}
