package callout

import (
	"fmt"
	"slices"
	"strings"
)

const argsMaxPairs = 100

// fillFromPairs reads --fields "A,B" --values "a | b" and fills the options that are not given from the fields they are
// usually filled from. The first of those fields that is listed decides; when it is empty so is the option. Several fields
// that name different hosts decide nothing.
func (p *argsParser) fillFromPairs(c *Call) {
	names, values, ok := p.pairWords()
	if !ok {
		return
	}
	c.Fields, c.Values = names, values
	pairs := make(map[string]string, len(names))
	for i, name := range names {
		pairs[name] = values[i]
	}
	for _, option := range argsOptions(p.kind) {
		if !option.of(p.kind) || p.given(option.name) || p.impliedElsewhere(option.name) {
			continue
		}
		for _, field := range option.fields {
			value, listed := pairs[field]
			if !listed {
				continue
			}
			p.line.words[option.name] = argsWords{list: []string{value}}
			if option.name == optHost {
				p.oneHost(option.fields, pairs, value)
			}
			break
		}
	}
	for i, value := range values {
		values[i] = argsDisplay(value)
	}
}

// impliedElsewhere keeps a field from filling two options: the hash options share FileHash, and an id of the event would
// send the bridge for what the line says already.
func (p *argsParser) impliedElsewhere(option string) bool {
	switch option {
	case optMD5, optSHA256, optEventID:
		return true
	case optHash:
		return p.given(optMD5) || p.given(optSHA256)
	default:
		return false
	}
}

func (p *argsParser) oneHost(fields []string, pairs map[string]string, chosen string) {
	for _, field := range fields {
		if other, listed := pairs[field]; listed && !argsEmpty(other) && !strings.EqualFold(other, chosen) {
			p.fail(optHost, Excerpt(other), "--fields name more than one host", `write --targetHost "{{.DeviceHostName}}"`)
			return
		}
	}
}

func (p *argsParser) pairWords() (names, values []string, ok bool) {
	if !p.given(optFields) && !p.given(optValues) {
		return nil, nil, false
	}
	list, ok := p.one(optFields)
	if !ok {
		p.fail(optFields, "", "--values is given without --fields", `write --fields "DeviceHostName,FilePath"`)
		return nil, nil, false
	}
	words, given := p.line.words[optValues]
	if !given || words.cut || len(words.list) == 0 {
		p.fail(optValues, "", "--fields is given without --values", `write --values "{{.DeviceHostName}} | {{.FilePath}}"`)
		return nil, nil, false
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !argsIsField(name) || slices.Contains(names, name) {
			p.fail(optFields, Excerpt(name), "--fields holds what is no field name, or one twice", `write --fields "DeviceHostName,FilePath"`)
			return nil, nil, false
		}
		names = append(names, name)
	}
	for value := range strings.SplitSeq(words.list[0], "|") {
		values = append(values, strings.TrimSpace(value))
	}
	// A value that holds a | would move the others along.
	if len(values) != len(names) || len(names) > argsMaxPairs {
		p.fail(optValues, Excerpt(words.list[0]), fmt.Sprintf("--values holds %d values for %d fields", len(values), len(names)),
			`separate them by |, or use --event-id "{{.ID}}"`)
		return nil, nil, false
	}
	return names, values, true
}

// argsIsField takes the names of event fields, extended ones with their prefix ("S.url").
func argsIsField(name string) bool {
	return name != "" && len(name) <= 128 &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") == "" && name[0] != '.'
}
