package sensor

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// The severities of alerts.
const (
	LevelLow      = "LOW"
	LevelMedium   = "MEDIUM"
	LevelHigh     = "HIGH"
	LevelCritical = "CRITICAL"
)

const (
	maxRules    = 1000
	maxRuleName = 64   // bytes
	maxTitle    = 256  // bytes
	maxWords    = 1000 // of one list
	maxWord     = 256  // bytes of a name
	maxPattern  = 1024 // bytes of a command line condition
	// anyName as the only child stands for every program.
	anyName = "*"
)

// Rule says which program is suspicious when which program starts it. The first rule that matches a start makes the alert.
//
// A program is called by the file name of its image in any case of letters (never by the name it gives itself), with or without
// its version (python for python3.11), by the file name of the script an interpreter runs, or by the applet of busybox.
type Rule struct {
	// Name is 1 to 64 letters, digits, dots, dashes and underscores; it stands in the alert as rule.
	Name string
	// Level is one of the Level… words, Title the title of the alert in at most 256 bytes.
	Level, Title string
	// Parents and Children are names of programs; the child "*" is any program.
	Parents, Children []string
	// CommandLine and ParentCommandLine are conditions on the arguments joined by blanks, of which one must hold where some are
	// given: text that occurs in it in any case of letters, or an RE2 expression between slashes. The first 32 KiB are compared. A
	// command line that cannot be read any more fulfils no condition.
	CommandLine, ParentCommandLine []string
	// IgnoreUnseen leaves out children that ended before their image could be read, a few tenths of a millisecond after their start.
	// Without it they match as if the name were right, unless CommandLine is given. So does always a child that lives and whose path
	// cannot be read because it is longer than 4 KiB.
	IgnoreUnseen bool
	// Except are starts the rule does not mean.
	Except []Exception
}

// Exception is a start a rule does not mean: all fields that are given must hold. They are read as those of a Rule.
type Exception struct {
	Parents, Children, CommandLine, ParentCommandLine []string
}

// ruleset is rules made ready for matching.
type ruleset struct {
	byParent map[string][]*compiled
}

type compiled struct {
	Rule
	rank             int // place in the file
	any              bool
	children         map[string]bool
	line, parentLine []pattern
	except           []compiledException
}

type compiledException struct {
	parents, children map[string]bool
	line, parentLine  []pattern
}

// pattern is one condition on a command line.
type pattern struct {
	text string
	expr *regexp.Regexp
}

// compile checks the rules and makes them ready; the error names each field that is wrong.
func compile(rules []Rule) (*ruleset, error) {
	var errs []error
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules are too many, the limit is %d", len(rules), maxRules)
	}
	set := &ruleset{byParent: map[string][]*compiled{}}
	names := map[string]bool{}
	for i, r := range rules {
		c, err := r.compile()
		if err == nil && names[r.Name] {
			err = errors.New("name: another rule has it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %w", i+1, err))
			continue
		}
		names[r.Name] = true
		c.rank = i
		for _, p := range r.Parents {
			p = strings.ToLower(p)
			if !slices.Contains(set.byParent[p], c) {
				set.byParent[p] = append(set.byParent[p], c)
			}
		}
	}
	return set, errors.Join(errs...)
}

func (r Rule) compile() (*compiled, error) {
	c := &compiled{Rule: r, children: nameSet(r.Children)}
	c.any = len(r.Children) == 1 && r.Children[0] == anyName
	var errs []error
	note := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	note("name", checkRuleName(r.Name))
	note("level", checkLevel(r.Level))
	note("title", checkTitle(r.Title))
	note("parents", checkNames(r.Parents, true, false))
	note("children", checkNames(r.Children, true, true))
	var err error
	c.line, err = patterns(r.CommandLine)
	note("cmdline", err)
	c.parentLine, err = patterns(r.ParentCommandLine)
	note("parent_cmdline", err)
	for i, e := range r.Except {
		x := compiledException{parents: nameSet(e.Parents), children: nameSet(e.Children)}
		field := func(f string) string { return fmt.Sprintf("except[%d].%s", i, f) }
		note(field("parents"), checkNames(e.Parents, false, false))
		note(field("children"), checkNames(e.Children, false, false))
		x.line, err = patterns(e.CommandLine)
		note(field("cmdline"), err)
		x.parentLine, err = patterns(e.ParentCommandLine)
		note(field("parent_cmdline"), err)
		if len(e.Parents)+len(e.Children)+len(e.CommandLine)+len(e.ParentCommandLine) == 0 {
			note(fmt.Sprintf("except[%d]", i), errors.New("give at least one field, or the rule would mean nothing"))
		}
		c.except = append(c.except, x)
	}
	return c, errors.Join(errs...)
}

func checkRuleName(name string) error {
	if name == "" || len(name) > maxRuleName {
		return fmt.Errorf("must be 1 to %d letters, digits, dots, dashes and underscores", maxRuleName)
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("%q must be letters, digits, dots, dashes and underscores, a letter or digit first", name)
		}
	}
	return nil
}

func checkLevel(level string) error {
	if slices.Contains([]string{LevelLow, LevelMedium, LevelHigh, LevelCritical}, level) {
		return nil
	}
	return fmt.Errorf("%q must be LOW, MEDIUM, HIGH or CRITICAL", level)
}

func checkTitle(title string) error {
	if title == "" || len(title) > maxTitle || !utf8.ValidString(title) || strings.ContainsFunc(title, func(c rune) bool { return c < ' ' }) {
		return fmt.Errorf("must be 1 to %d bytes of text in one line", maxTitle)
	}
	return nil
}

func checkNames(names []string, required, wild bool) error {
	if required && len(names) == 0 {
		return errors.New("name at least one program")
	}
	if len(names) > maxWords {
		return fmt.Errorf("%d names are too many, the limit is %d", len(names), maxWords)
	}
	for _, name := range names {
		switch {
		case wild && name == anyName && len(names) == 1:
		case name == "" || len(name) > maxWord:
			return fmt.Errorf("%q: a name has 1 to %d bytes", name, maxWord)
		case strings.ContainsAny(name, "/\\\x00"):
			return fmt.Errorf("%q is a path: write the file name only", name)
		case strings.ContainsAny(name, "*?"):
			return fmt.Errorf("%q: names have no wildcards; the child * alone stands for every program", name)
		}
	}
	return nil
}

func nameSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[strings.ToLower(name)] = true
	}
	return set
}

func patterns(words []string) ([]pattern, error) {
	if len(words) > maxWords {
		return nil, fmt.Errorf("%d conditions are too many, the limit is %d", len(words), maxWords)
	}
	list := make([]pattern, 0, len(words))
	for _, w := range words {
		if w == "" || len(w) > maxPattern {
			return nil, fmt.Errorf("%q: a condition has 1 to %d bytes", w, maxPattern)
		}
		expr, ok := strings.CutPrefix(w, "/")
		if expr, ok = cutLast(expr, ok); !ok {
			list = append(list, pattern{text: strings.ToLower(w)})
			continue
		}
		e, err := regexp.Compile(expr)
		if se, ok := errors.AsType[*syntax.Error](err); ok {
			return nil, fmt.Errorf("%q: %s", w, se.Code) // the whole error would hold the text as it is
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no expression", w)
		}
		list = append(list, pattern{expr: e})
	}
	return list, nil
}

// cutLast takes the closing slash of an expression off; text such as a path has none.
func cutLast(s string, opened bool) (string, bool) {
	inner, closed := strings.CutSuffix(s, "/")
	return inner, opened && closed && inner != ""
}
