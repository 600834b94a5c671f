package callout

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Permanent is the Call.ForPeriod of `--for permanent`: an isolation without an end of its own.
const Permanent time.Duration = -1

const (
	callMinPeriod  = time.Second
	callMaxPeriod  = 30 * 24 * time.Hour
	callMaxReason  = 1 << 10 // bytes
	callUUIDLength = 36
)

// one returns the only word of an option; ok is false when there is none or when it is no value, which was then complained
// about.
func (p *argsParser) one(option string) (word string, ok bool) {
	words, given := p.line.words[option]
	if !given {
		return "", false
	}
	if words.cut || len(words.list) == 0 || argsEmpty(words.list[0]) {
		p.empty(option, words)
		return "", false
	}
	if err := argsCheckValue(words.list[0]); err != nil {
		p.fail(option, Excerpt(words.list[0]), "--"+option+" "+err.Error(), "")
		return "", false
	}
	return words.list[0], true
}

// given reports whether the option stands in the line, with a value or without.
func (p *argsParser) given(option string) bool {
	_, given := p.line.words[option]
	return given
}

// empty says which field to add.
func (p *argsParser) empty(option string, words argsWords) {
	shown := ""
	if len(words.list) > 0 {
		shown = Excerpt(words.list[0])
	}
	hint := strings.TrimPrefix(argsAdvice("add ", option, p.kind), ": ")
	if hint == "" {
		hint = fmt.Sprintf("write its value: --%s=VALUE", option)
	}
	if words.cut && option == optArguments {
		hint = "a value that begins with - is written --arguments=VALUE"
	}
	p.fail(option, shown, "field for --"+option+" came empty", hint)
}

func (p *argsParser) required(option string) {
	if p.given(option) {
		return
	}
	hint := ""
	if o, ok := argsFind(argsOptions(p.kind), option); ok && len(o.fields) > 0 {
		hint = fmt.Sprintf(`write --%s "{{.%s}}"`, option, o.fields[0])
	}
	p.fail(option, "", "--"+option+" is required", hint)
}

// argsEmpty reports whether a word is what a template leaves behind for a field that is not there: nothing, the words
// of Go's text/template, Go's zero time, and the dash auditd and some normalisers write.
func argsEmpty(word string) bool {
	word = strings.TrimSpace(word)
	return slices.Contains([]string{"", "-", "<nil>", "<no value>", `""`, "''"}, word) || strings.HasPrefix(word, "0001-01-01")
}

// argsCheckValue refuses what no value of a task may hold: it would be something else for the next reader.
func argsCheckValue(word string) error {
	if !utf8.ValidString(word) {
		return errors.New("is not valid UTF-8")
	}
	for i, r := range word {
		switch {
		case r == 0:
			return fmt.Errorf("holds a NUL at byte %d", i)
		case argsDeceptive(r):
			return fmt.Errorf("holds the control or invisible character %U at byte %d", r, i)
		}
	}
	if strings.Contains(word, "{{") || strings.Contains(word, "}}") {
		return errors.New("holds a template that was not filled in")
	}
	return nil
}

func argsDeceptive(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) ||
		r == '\ufeff' || r == utf8.RuneError
}

// argsDisplay makes a text for people fit to be stored and shown: at most 1 KiB, deceptive characters as escapes.
func argsDisplay(text string) string {
	var b strings.Builder
	for i, r := range text {
		piece := string(r)
		if argsDeceptive(r) {
			piece = strings.Trim(strconv.QuoteToASCII(text[i:i+argsRuneLength(text[i:])]), `"`)
		}
		if b.Len()+len(piece) > callMaxReason {
			break
		}
		b.WriteString(piece)
	}
	return b.String()
}

func argsRuneLength(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}

// argsQuote quotes a text so that it can be printed anywhere; a readable one keeps its backslashes.
func argsQuote(text string) string {
	for _, r := range text {
		if r == '"' || r >= utf8.RuneSelf || !unicode.IsPrint(r) {
			return strconv.QuoteToASCII(text)
		}
	}
	return `"` + text + `"`
}

// flag reads a switch: the bare option is true.
func (p *argsParser) flag(option string, unset bool) bool {
	words, given := p.line.words[option]
	switch {
	case !given:
		return unset
	case len(words.list) == 0:
		return true
	}
	word, ok := p.one(option)
	if !ok {
		return unset
	}
	on, err := argsSwitch(word)
	if err != nil {
		p.fail(option, Excerpt(word), "--"+option+" "+err.Error(), "want true or false")
	}
	return on
}

func argsSwitch(word string) (bool, error) {
	switch strings.ToLower(word) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	default:
		return false, errors.New("is neither on nor off")
	}
}

// argsMillis reads KUMA's Timestamp: milliseconds since 1970.
func argsMillis(word string) (int64, error) {
	const digits = 13 // until the year 2286
	if strings.Trim(word, "0123456789") != "" {
		return 0, errors.New("is no number of milliseconds since 1970")
	}
	if len(word) != digits {
		return 0, fmt.Errorf("has %d digits, want the %d of milliseconds since 1970", len(word), digits)
	}
	return strconv.ParseInt(word, 10, 64)
}

func callPeriod(word string) (time.Duration, error) {
	if strings.EqualFold(word, "permanent") {
		return Permanent, nil
	}
	d, err := time.ParseDuration(word)
	switch {
	case err != nil:
		return 0, errors.New("is no time span")
	case d < callMinPeriod || d > callMaxPeriod:
		return 0, errors.New("must be from 1s to 720h")
	default:
		return d, nil
	}
}

// callUUID takes the 8-4-4-4-12 form in either case and nothing else, because ids go into queries.
func callUUID(word string) (string, bool) {
	if len(word) != callUUIDLength {
		return "", false
	}
	for i := range len(word) {
		c := word[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case ('0' > c || c > '9') && ('a' > c|' ' || c|' ' > 'f'):
			return "", false
		}
	}
	return strings.ToLower(word), true
}
