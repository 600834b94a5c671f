package callout

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// argsWords are the words that were found for one option.
type argsWords struct {
	list []string
	// joined says that the value stood behind =, cut that the line or another option came where it should stand.
	joined, cut bool
}

// argsLine is an argument line taken apart: the words by option.
type argsLine struct {
	words map[string]argsWords
}

// argsRead takes a line apart. It decides what is an option and what is a value, and nothing about the values.
func argsRead(task bridge.Kind, argv []string) (argsLine, error) {
	line := argsLine{words: make(map[string]argsWords)}
	if len(argv) > argsMaxWords {
		return line, &ArgumentError{
			Message: fmt.Sprintf("the line has %d words, allowed are %d", len(argv), argsMaxWords), Hint: "quote the templates",
		}
	}
	options := argsOptions(task)
	last, open := argsOption{}, false
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		if len(word) > argsMaxWord {
			return line, &ArgumentError{Message: fmt.Sprintf("word %d is longer than %d bytes", i+1, argsMaxWord)}
		}
		if !argsLooksLikeOption(word) {
			if err := line.stray(last, open, word); err != nil {
				return line, err
			}
			continue
		}
		name, value, joined := strings.Cut(argsStripDashes(word), "=")
		option, err := argsPick(options, task, name)
		if err != nil {
			return line, err
		}
		if _, twice := line.words[option.name]; twice {
			return line, &ArgumentError{
				Option: "--" + option.name, Message: "--" + option.name + " is given twice",
				Hint: "give it once, and quote the templates: a value must not bring options of its own",
			}
		}
		found := argsWords{joined: joined}
		switch {
		case joined:
			found.list = []string{value}
		case i+1 < len(argv) && !argsLooksLikeOption(argv[i+1]):
			i++
			found.list = []string{argv[i]}
		case i+1 < len(argv) && option.takes != takesFlag && !argsIsOption(options, argv[i+1]):
			return line, &ArgumentError{
				Option: "--" + option.name, Value: Excerpt(argsOptionPart(argv[i+1])),
				Message: "the value of --" + option.name + " looks like an option",
				Hint:    fmt.Sprintf("if it is one value, write --%s=VALUE", option.name),
			}
		default:
			found.cut = option.takes != takesFlag
		}
		line.words[option.name] = found
		last, open = option, true
	}
	return line, nil
}

// stray finds a place for a word that belongs to no option of its own.
func (l *argsLine) stray(last argsOption, open bool, word string) error {
	found := l.words[last.name]
	switch {
	case open && last.takes == takesText, open && last.takes == takesMany:
		found.list = append(found.list, word)
		l.words[last.name] = found
		return nil
	case strings.HasPrefix(word, "–"), strings.HasPrefix(word, "—"), strings.HasPrefix(word, "−"):
		return &ArgumentError{
			Value: Excerpt(word), Message: "a word begins with a long dash", Hint: "type hyphens: --option (text processors replace them)",
		}
	case !open:
		return &ArgumentError{
			Value: Excerpt(word), Message: "the line begins with a word that belongs to no option",
			Hint: `write it as --targetHost "{{.DeviceHostName}}"`,
		}
	default:
		return &ArgumentError{
			Option: "--" + last.name, Value: Excerpt(word), Message: "a word behind --" + last.name + " belongs to nothing",
			Hint: fmt.Sprintf(`quote the template: --%s "{{…}}"`, last.name),
		}
	}
}

// argsPick finds the option a word names, or says why there is none. The value is never shown: behind a word that is no
// option of ours may stand a password.
func argsPick(options []argsOption, task bridge.Kind, name string) (argsOption, error) {
	option, known := argsFind(options, name)
	switch {
	case known && option.of(task):
		return option, nil
	case known:
		return option, &ArgumentError{
			Option: "--" + option.name, Message: fmt.Sprintf("%s has no option --%s", task, option.name),
			Hint: "it takes --" + strings.Join(argsNames(options, task), ", --"),
		}
	}
	for _, variable := range argsConnection() {
		if argsLoose(name) != argsLoose(variable) {
			continue
		}
		hint := "the connection to KSC is in the bridge's settings (ksc:)"
		if variable == "kscPassword" {
			hint = "every user of the machine can read a command line: edr-bridge secrets set ksc/password"
		}
		return option, &ArgumentError{Option: "--" + variable, Message: "--" + variable + " is not taken here", Hint: hint}
	}
	shown := Excerpt("--" + name)
	names := argsNames(options, task)
	hint := strings.TrimPrefix(bridge.DidYouMean(name, names), ", ")
	if hint == "" {
		hint = "it takes --" + strings.Join(names, ", --")
	}
	return option, &ArgumentError{Option: shown, Message: fmt.Sprintf("%s has no option %s", task, shown), Hint: hint}
}

// argsLooksLikeOption reports whether a word begins as options do; "-" alone is what KUMA and auditd write for "nothing".
func argsLooksLikeOption(word string) bool { return len(word) > 1 && word[0] == '-' }

// argsOptionPart is a word up to its =: what stands behind may be a secret.
func argsOptionPart(word string) string {
	name, _, _ := strings.Cut(word, "=")
	return name
}

// argsIsOption reports whether a word names an option of any task, or one of the vendor's that are refused.
func argsIsOption(options []argsOption, word string) bool {
	name := argsStripDashes(argsOptionPart(word))
	_, known := argsFind(options, name)
	return known || slices.ContainsFunc(argsConnection(), func(v string) bool { return argsLoose(v) == argsLoose(name) })
}

// argsStripDashes takes one or two dashes off; with more it is no option of ours.
func argsStripDashes(word string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	if strings.HasPrefix(name, "-") {
		return word
	}
	return name
}

const argsExcerptRunes = 80

// Excerpt quotes the beginning of a foreign text (80 characters) in plain ASCII: one line, no control and no invisible characters.
func Excerpt(text string) string {
	const room = utf8.UTFMax * argsExcerptRunes
	runes := []rune(text[:min(len(text), room)])
	if len(runes) > argsExcerptRunes || len(text) > room {
		return argsQuote(string(runes[:min(len(runes), argsExcerptRunes)])) + "…"
	}
	return argsQuote(text)
}
