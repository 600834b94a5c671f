package kuma

import (
	"bytes"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	soarMaxBody   = 64 << 10
	soarMaxFields = 64
	soarMaxKey    = 128
	soarMaxValue  = 8 << 10
)

// soarForm is a form; no field stands in it twice.
type soarForm map[string]string

// parseSOARForm reads application/x-www-form-urlencoded: at most 64 fields, keys to 128 bytes, values to 8 KiB, UTF-8 without NUL. A field
// that stands twice is refused, since readers differ about which one counts. Errors do not quote the form.
func parseSOARForm(body []byte) (soarForm, error) {
	if len(body) > soarMaxBody {
		return nil, errors.New("the form is too large")
	}
	if bytes.Count(body, []byte{'&'}) >= soarMaxFields {
		return nil, errors.New("the form has more than " + strconv.Itoa(soarMaxFields) + " fields")
	}
	form := soarForm{}
	for part := range strings.SplitSeq(string(body), "&") {
		if part == "" {
			continue
		}
		if strings.Contains(part, ";") {
			return nil, errors.New("the form holds a semicolon: escape it")
		}
		rawKey, rawValue, _ := strings.Cut(part, "=")
		key, errKey := url.QueryUnescape(rawKey)
		value, errValue := url.QueryUnescape(rawValue)
		switch {
		case errKey != nil || errValue != nil:
			return nil, errors.New("the form holds an escape that is none")
		case key == "" || len(key) > soarMaxKey || len(value) > soarMaxValue:
			return nil, errors.New("the form holds a key or value that is empty or too long")
		case !soarClean(key) || !soarClean(value):
			return nil, errors.New("the form holds text that is not UTF-8, or a NUL")
		}
		if _, twice := form[key]; twice {
			return nil, errors.New("the form holds a field twice")
		}
		form[key] = value
	}
	return form, nil
}

func soarClean(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// one returns a field that must be there.
func (f soarForm) one(key string) (string, error) {
	if f[key] == "" {
		return "", errors.New("the form has no field for the alert id: set the same tag in KUMA and here")
	}
	return f[key], nil
}

// names lists the fields for the log, made fit to print: names are chosen by an administrator, values are not shown.
func (f soarForm) names() string {
	names := slices.Sorted(maps.Keys(f))
	return restExcerpt([]byte(strings.Join(names, " ")), restMaxName)
}
