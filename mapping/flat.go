package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/cef"
	"github.com/edr-bridge/edr-bridge/syslog"
)

const (
	maxTextLines = 4096 // lines of a text
	maxTextKey   = 64   // bytes of the key of a line
)

// pair is one key of a flat document with its text; json says that the text is a JSON object whose places are read instead.
type pair struct {
	key, text string
	json      bool
}

// pairs reads a document that is no JSON. Header fields stand under cef. and syslog., custom fields of CEF also under their
// label: "cs1=R7 cs1Label=rule" is cs1 and label.rule. A syslog message whose text is CEF or a JSON object has its fields too.
func (f format) pairs(doc []byte) ([]pair, error) {
	switch f {
	case formatCEF:
		return cefPairs(doc)
	case formatSyslog:
		return syslogPairs(doc)
	case formatText:
		return textPairs(doc)
	case formatJSON:
		return nil, errors.New("is not flat")
	default:
		return nil, fmt.Errorf("has the unknown format %q", f)
	}
}

func cefPairs(line []byte) ([]pair, error) {
	r, err := cef.Parse(bytes.TrimLeft(line, " \t"))
	if err != nil {
		return nil, err
	}
	list := make([]pair, 0, 6+2*len(r.Extension))
	list = append(list,
		pair{key: "cef.vendor", text: r.Vendor}, pair{key: "cef.product", text: r.Product}, pair{key: "cef.version", text: r.DeviceVersion},
		pair{key: "cef.class", text: r.ClassID}, pair{key: "cef.name", text: r.Name}, pair{key: "cef.severity", text: r.Severity})
	for _, p := range r.Extension {
		list = append(list, pair{key: p.Key, text: p.Value})
		if of, ok := strings.CutSuffix(p.Key, "Label"); ok && p.Value != "" {
			if v, given := r.Get(of); given {
				list = append(list, pair{key: "label." + p.Value, text: v})
			}
		}
	}
	return list, nil
}

func syslogPairs(line []byte) ([]pair, error) {
	m, err := syslog.Parse(bytes.TrimLeft(line, " \t\r\n"))
	if err != nil {
		return nil, err
	}
	text := string(m.Text)
	list := []pair{
		{key: "syslog.host", text: m.Host},
		{key: "syslog.app", text: m.App},
		{key: "syslog.pid", text: m.ProcID},
		{key: "syslog.id", text: m.MsgID},
		{key: "syslog.stamp", text: m.Stamp},
		{key: "syslog.text", text: text},
	}
	if m.Severity >= 0 {
		list = append(list, pair{key: "syslog.severity", text: fmt.Sprint(m.Severity)}, pair{key: "syslog.facility", text: fmt.Sprint(m.Facility)})
	}
	if !m.Time.IsZero() {
		list = append(list, pair{key: "syslog.time", text: m.Time.UTC().Format(time.RFC3339Nano)})
	}
	for _, id := range slices.Sorted(maps.Keys(m.Data)) {
		for _, name := range slices.Sorted(maps.Keys(m.Data[id])) {
			list = append(list, pair{key: "syslog.data." + id + "." + name, text: m.Data[id][name]})
		}
	}
	body := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(body, "CEF:"):
		more, err := cefPairs([]byte(body))
		return append(list, more...), err
	case strings.HasPrefix(body, "{") && bridge.CheckJSON([]byte(body)) == nil:
		list = append(list, pair{text: body, json: true})
	}
	return list, nil
}

// textPairs reads lines "Key: value". Products that put such a text on one line write the breaks as the four characters \r\n;
// they count only where the text has no real break and only in front of a key, because a path may hold them.
func textPairs(doc []byte) ([]pair, error) {
	if !utf8.Valid(doc) || bytes.IndexByte(doc, 0) >= 0 {
		return nil, errors.New("is not plain UTF-8 text")
	}
	text := strings.TrimSpace(string(doc))
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 1 {
		lines = writtenLines(text)
	}
	if len(lines) > maxTextLines {
		return nil, fmt.Errorf("has more than %d lines", maxTextLines)
	}
	list := []pair{{key: "text", text: text}}
	for _, line := range lines {
		if key, value, ok := cutKey(line); ok {
			list = append(list, pair{key: key, text: value})
		}
	}
	if len(list) == 1 {
		return nil, fmt.Errorf(`holds no line "Key: value", begins with %s`, excerpt(doc[:min(len(doc), 16)]))
	}
	return list, nil
}

// writtenLines cuts a text at the characters \r\n or \n in front of a key.
func writtenLines(text string) []string {
	var lines []string
	begin := 0
	for i := 0; i < len(text); i++ {
		for _, end := range []string{`\r\n`, `\n`} {
			rest, ok := strings.CutPrefix(text[i:], end)
			if !ok || len(lines) >= maxTextLines {
				continue
			}
			if _, _, ok := cutKey(rest[:min(len(rest), 2*maxTextKey)]); ok {
				lines = append(lines, text[begin:i])
				begin = i + len(end)
				i = begin - 1
				break
			}
		}
	}
	return append(lines, text[begin:])
}

// cutKey splits "Key: value"; a key begins with a letter and holds letters, digits, spaces, dashes and underscores.
func cutKey(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, ":")
	key = strings.TrimSpace(key)
	if !ok || key == "" || len(key) > maxTextKey || value != "" && value[0] != ' ' && value[0] != '\t' {
		return "", "", false
	}
	for i, c := range key {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
		if !letter && (i == 0 || (c < '0' || c > '9') && c != ' ' && c != '-' && c != '_') {
			return "", "", false
		}
	}
	return key, strings.TrimSpace(value), true
}
