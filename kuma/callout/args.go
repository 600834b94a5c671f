package callout

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	argsMaxWords = 1000     // words of an argument line
	argsMaxWord  = 16 << 20 // bytes of one of them; Linux gives a program 128 KiB (MAX_ARG_STRLEN)
)

// ArgumentError says what is wrong with an argument line. The call was not made; the exit code is 2.
type ArgumentError struct {
	// Option is the option it is about, as "--path"; empty when it is about the whole line.
	Option string
	// Value is the beginning of the value, quoted and escaped so that it can be printed anywhere; empty when
	// there is none or when it may be a secret.
	Value string
	// Message says what is wrong, Hint what to do about it (may be empty).
	Message, Hint string
}

// Error returns message, value and hint in one line.
func (e *ArgumentError) Error() string {
	text := e.Message
	if e.Value != "" {
		text += " (" + e.Value + ")"
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// IsScriptName reports whether the base name of a program is one of the vendor's nine scripts, in any case, with or without
// .py, and which task it stands for (support.kaspersky.com/help/KUMA/3.4/en-US/300229.htm). The last element of a path counts.
func IsScriptName(base string) (bridge.Kind, bool) {
	name := strings.ToLower(path.Base(strings.ReplaceAll(base, `\`, "/")))
	name = strings.TrimSuffix(name, ".py")
	for _, k := range bridge.Kinds() {
		if k.KSC() && name == strings.ToLower(string(k)) {
			return k, true
		}
	}
	return "", false
}

// ParseCall reads the words behind the name of a script or of `send --task`. name is a task in any case, or the base name of a
// script. It reads the file --ioc names and nothing else, and does not set ID and At.
//
// Options have one or two dashes, their value behind = or as the next word; case, - and _ in names do not count. A word
// that looks like an option is a value only behind =. Every problem is an *ArgumentError, several are joined.
// That KUMA splits the line into words like a shell, quotes included, is not documented: what comes of another way of
// splitting is refused and never guessed at.
func ParseCall(name string, argv []string) (Call, error) {
	kind, ok := IsScriptName(name)
	if !ok {
		if !strings.EqualFold(name, string(bridge.KindBlockAddress)) {
			_, err := bridge.ParseKind(name)
			if err == nil {
				err = errors.New("unknown task")
			}
			return Call{}, &ArgumentError{Value: Excerpt(name), Message: "no script and no task has this name", Hint: argsNearestTask(err)}
		}
		kind = bridge.KindBlockAddress
	}
	line, err := argsRead(kind, argv)
	if err != nil {
		return Call{}, err
	}
	p := argsParser{kind: kind, line: line}
	call := p.call()
	if err := errors.Join(p.problems...); err != nil {
		return Call{}, err
	}
	return call, nil
}

func argsNearestTask(err error) string {
	if _, near, ok := strings.Cut(err.Error(), ", did you mean "); ok {
		return "did you mean " + near
	}
	return "see edr-bridge tasks describe"
}

// argsParser makes a call of the words that were found and collects what is wrong.
type argsParser struct {
	kind     bridge.Kind
	line     argsLine
	problems []error
	warnings []string
	// hopeless are options that were complained about already.
	hopeless map[string]bool
}

func (p *argsParser) fail(option, value, message, hint string) {
	if p.hopeless == nil {
		p.hopeless = make(map[string]bool)
	}
	if option != "" {
		if p.hopeless[option] {
			return
		}
		p.hopeless[option] = true
		option = "--" + option
	}
	p.problems = append(p.problems, &ArgumentError{Option: option, Value: value, Message: message, Hint: hint})
}

func (p *argsParser) call() Call {
	c := Call{Task: p.kind}
	p.fillFromPairs(&c)
	c.EventID = p.eventID()
	fromEvent := p.given(optEventID)
	c.Timestamp = p.timestamp(fromEvent)
	c.Host = p.host(fromEvent)
	c.Params = p.task(fromEvent)
	c.ForPeriod = p.period(c.Params)
	c.Reason = p.reason()
	c.Warnings = p.warnings
	return c
}

func (p *argsParser) eventID() string {
	word, ok := p.one(optEventID)
	if !ok {
		return ""
	}
	id, ok := callUUID(word)
	if !ok {
		p.fail(optEventID, Excerpt(word), "--event-id is no event id: want a UUID and nothing else", `write --event-id "{{.ID}}"`)
	}
	return id
}

func (p *argsParser) timestamp(required bool) int64 {
	word, ok := p.one(optTimestamp)
	if !ok {
		if required {
			p.required(optTimestamp)
		}
		return 0
	}
	ms, err := argsMillis(word)
	if err != nil {
		p.fail(optTimestamp, Excerpt(word), "--timestamp "+err.Error(), `write --timestamp "{{.Timestamp}}"`)
	}
	return ms
}

func (p *argsParser) period(task bridge.Task) time.Duration {
	word, ok := p.one(optFor)
	if !ok {
		return 0
	}
	isolation, isIsolation := task.(bridge.IsolateHost)
	if isIsolation && isolation.Action == bridge.IsolationOff {
		p.fail(optFor, "", "--for: a release has no duration", "leave --for out")
		return 0
	}
	d, err := callPeriod(word)
	if err == nil && d == Permanent && p.kind != bridge.KindIsolateHost {
		err = fmt.Errorf("%s cannot be permanent", p.kind)
	}
	if err != nil {
		p.fail(optFor, Excerpt(word), "--for "+err.Error(), "write a time span such as 4h")
	}
	return d
}

// reason is for people only: it never stops a call, and what could deceive its reader is escaped.
func (p *argsParser) reason() string {
	words, ok := p.line.words[optReason]
	if !ok {
		return ""
	}
	text := strings.Join(words.list, " ")
	if argsEmpty(text) {
		p.warnings = append(p.warnings, "--reason came empty"+argsAdvice(": add ", optReason, p.kind))
		return ""
	}
	shown := argsDisplay(text)
	if shown != text {
		p.warnings = append(p.warnings, "--reason held characters that do not belong into a log: they were escaped or cut off")
	}
	return shown
}
