package bridge

import (
	"strings"
	"unicode/utf8"
)

// hasDollarVariable knows ${…} and PowerShell's $env: anywhere.
func hasDollarVariable(path string) bool {
	return strings.Contains(path, "${") || strings.Contains(strings.ToLower(path), "$env:")
}

// isShellVariable knows $NAME as a whole segment.
func isShellVariable(segment string) bool {
	name, ok := strings.CutPrefix(segment, "$")
	return ok && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == "" && name != "" && !isDigit(name[0])
}

// hasPercentVariable knows %NAME% inside a segment; names start with a letter, so that the %20 of a
// downloaded file is none.
func hasPercentVariable(path string) bool {
	for {
		_, after, ok := strings.Cut(path, "%")
		if !ok {
			return false
		}
		end := strings.IndexAny(after, `%\/:`)
		if end > 0 && after[end] == '%' && (after[0] == '_' || isLetter(after[0])) {
			return true
		}
		path = after
	}
}

// isDeviceName knows the names that open a device in every folder and with every ending
// (learn.microsoft.com/windows/win32/fileio/naming-a-file).
func isDeviceName(name string) bool {
	name = foldPath(name)
	switch name {
	case "con", "prn", "aux", "nul", "conin$", "conout$", "clock$":
		return true
	}
	port, ok := strings.CutPrefix(name, "com")
	if !ok {
		port, ok = strings.CutPrefix(name, "lpt")
	}
	return ok && utf8.RuneCountInString(port) == 1 && strings.Contains("0123456789¹²³", port)
}

// isShortName knows the DOS 8.3 names Windows makes: PROGRA~1, A1B2C3~1.EXE.
func isShortName(segment string) bool {
	if strings.IndexByte(segment, '~') < 0 {
		return false
	}
	stem, ending, _ := strings.Cut(segment, ".")
	start, number, ok := strings.Cut(stem, "~")
	return ok && start != "" && number != "" && strings.Trim(number, "0123456789") == "" &&
		utf8.RuneCountInString(stem) <= 8 && utf8.RuneCountInString(ending) <= 3
}

// mayShorten reports whether Windows may have made the 8.3 name from a long name that fits the pattern, both
// in lower case: from its first six characters, or after some collisions from one or two and four hex digits
// of a hash, without spaces and dots and with _ for what DOS does not know, and the first three characters
// of its ending. Where it cannot tell it says yes.
func mayShorten(pattern, short string) bool {
	if !isASCII(pattern) || !isASCII(short) {
		return true
	}
	pattern = strings.NewReplacer(" ", "", "?", "*", "+", "_", ",", "_", ";", "_", "=", "_", "[", "_", "]", "_").Replace(pattern)
	start, _, _ := strings.Cut(short, "~")
	_, ending, _ := strings.Cut(short, ".")
	long, wantEnding := pattern, ""
	if i := strings.LastIndexByte(pattern, '.'); i > 0 {
		long, wantEnding = pattern[:i], pattern[i+1:]
	}
	if !strings.Contains(wantEnding, "*") && (wantEnding != "" || !strings.Contains(pattern, "*")) && wantEnding[:min(len(wantEnding), 3)] != ending {
		return false
	}
	long, _, _ = strings.Cut(strings.ReplaceAll(long, ".", ""), "*")
	if strings.HasPrefix(start, long[:min(len(long), len(start))]) {
		return true
	}
	hash := len(start) - 4
	return 0 < hash && hash <= 2 && strings.Trim(start[hash:], "0123456789abcdef") == "" && strings.HasPrefix(start, long[:min(hash, len(long))])
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
