package ksctest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// taskBody is KLINCDT_BODY as support.kaspersky.com/help/KESWin/12.9/en-US/300491.htm describes it.
type taskBody struct {
	Target string          `json:"targetHost"`
	Task   string          `json:"task"`
	Params json.RawMessage `json:"params"`
	Marker *bool           `json:"responseEventIncident"`
	Area   *string         `json:"responseEventIncidentArea"`
}

// paramRule says what one parameter of a task must be.
type paramRule struct {
	name     string
	optional bool
	check    func(raw json.RawMessage) error
}

// fileRules are the parameters that name a file.
var fileRules = []paramRule{
	{"md5hash", false, isHash(16, true)},
	{"sha256hash", false, isHash(32, true)},
	{"path", false, isString},
}

// taskRules are the parameters of the tasks whose params are an object.
var taskRules = map[string][]paramRule{
	"getFile":          fileRules,
	"quarantineFile":   fileRules,
	"deleteFile":       append(slices.Clone(fileRules), paramRule{"searchInSubfolders", true, isBool}),
	"terminateProcess": append(slices.Clone(fileRules), paramRule{"caseSensitive", false, isBool}),
	"startProcess":     {{"executablePath", false, isFilled}, {"arguments", true, isString}, {"workingFolder", true, isString}},
	"isolateHost":      {{"action", false, isSwitch}},
	"preventExecution": {{"hash", false, isHash(16, false)}, {"path", false, isString}, {"caseSensitive", false, isBool}},
	"iocScan": {
		{"ioc", false, isArchive},
		{"isolateHost", false, isBool},
		{"scanCriticalAreas", false, isBool},
		{"quarantineObject", false, isBool},
	},
}

// scanRules are the members of one scope of onDemandScan.
var scanRules = []paramRule{
	{"enabled", false, isBool},
	{"path", false, isString},
	{"recursive", false, isBool},
	{"type", false, isScanType},
}

// readTaskBody decodes and checks a body. Unknown keys are refused: the vendor's reader is not known to take any.
func readTaskBody(text string) (taskBody, error) {
	var b taskBody
	if err := strictDecode([]byte(text), &b); err != nil {
		return b, fmt.Errorf("body: %w", err)
	}
	var errs []error
	if b.Target == "" {
		errs = append(errs, errors.New("targetHost: required"))
	}
	if b.Marker == nil || !*b.Marker {
		errs = append(errs, errors.New("responseEventIncident: must be true"))
	}
	if b.Area == nil || !strings.EqualFold(*b.Area, "Kuma") {
		errs = append(errs, errors.New(`responseEventIncidentArea: must be "Kuma"`))
	}
	errs = append(errs, checkParams(b.Task, b.Params))
	return b, errors.Join(errs...)
}

// matches reports a body whose target is not the host of its incident.
func (b *taskBody) matches(host string) error {
	if !strings.EqualFold(b.Target, host) {
		return errors.New("targetHost: differs from KLHST_WKS_HOSTNAME of the incident")
	}
	return nil
}

func checkParams(task string, raw json.RawMessage) error {
	if task == "onDemandScan" {
		return checkScan(raw)
	}
	rules, ok := taskRules[task]
	if !ok {
		return fmt.Errorf("task: %q is none of the nine", task)
	}
	return checkObject("params", raw, rules)
}

// checkScan judges the params of onDemandScan, which are an array.
func checkScan(raw json.RawMessage) error {
	var scopes []json.RawMessage
	if err := json.Unmarshal(raw, &scopes); err != nil || len(scopes) == 0 {
		return errors.New("params: array of scan objects expected")
	}
	var errs []error
	for i, scope := range scopes {
		errs = append(errs, checkObject(fmt.Sprintf("params[%d]", i), scope, scanRules))
	}
	return errors.Join(errs...)
}

func checkObject(where string, raw json.RawMessage, rules []paramRule) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return fmt.Errorf("%s: object expected", where)
	}
	var errs []error
	for _, rule := range rules {
		value, ok := object[rule.name]
		delete(object, rule.name)
		switch {
		case !ok && rule.optional:
		case !ok:
			errs = append(errs, fmt.Errorf("%s.%s: required", where, rule.name))
		default:
			if err := rule.check(value); err != nil {
				errs = append(errs, fmt.Errorf("%s.%s: %w", where, rule.name, err))
			}
		}
	}
	for name := range object {
		errs = append(errs, fmt.Errorf("%s.%s: unknown", where, name))
	}
	return errors.Join(errs...)
}

func isBool(raw json.RawMessage) error {
	if s := string(raw); s != "true" && s != "false" {
		return errors.New("bool expected")
	}
	return nil
}

func isString(raw json.RawMessage) error {
	_, err := asString(raw)
	return err
}

func isFilled(raw json.RawMessage) error {
	s, err := asString(raw)
	if err == nil && s == "" {
		err = errors.New("must not be empty")
	}
	return err
}

// isHash wants so many bytes in hex, or an empty string where that is allowed.
func isHash(size int, orEmpty bool) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		s, err := asString(raw)
		if err != nil || s == "" && orEmpty {
			return err
		}
		if b, err := hex.DecodeString(s); err != nil || len(b) != size {
			return fmt.Errorf("%d hex digits expected", 2*size)
		}
		return nil
	}
}

func isSwitch(raw json.RawMessage) error {
	if s := string(raw); s != "0" && s != "1" {
		return errors.New("number 0 or 1 expected")
	}
	return nil
}

// isArchive wants the base64 of a ZIP.
func isArchive(raw json.RawMessage) error {
	s, err := asString(raw)
	if err != nil {
		return err
	}
	if b, err := base64.StdEncoding.DecodeString(s); err != nil || !bytes.HasPrefix(b, []byte("PK")) {
		return errors.New("base64 of a ZIP archive expected")
	}
	return nil
}

// isScanType wants a number of ScanObjectType; 19 to 21 are not defined.
func isScanType(raw json.RawMessage) error {
	n, ok := parseInt(raw)
	if !ok || n < 14 || n > 25 || n >= 19 && n <= 21 {
		return errors.New("scan object type 14 to 18 or 22 to 25 expected")
	}
	return nil
}

func asString(raw json.RawMessage) (string, error) {
	s, ok := unquote(raw)
	if !ok {
		return "", errors.New("string expected")
	}
	return s, nil
}

func strictDecode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}
