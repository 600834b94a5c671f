package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// TaskFromParams builds a valid task from parameters in text form, as a command line and the KUMA scripts give
// them, and reports every problem at once, each as "params.<field>: <what is wrong>".
// Names count without case, - and _; md5, sha256 and hash stand for md5hash and sha256hash. Flags are
// true/false, 1/0, yes/no, on/off in any case; action also enable/disable; a scan type is its number or
// name, several with commas; several folders are separated by spaces. Digests may be upper case,
// labelled ("sha256:…") or a list ("MD5=…,SHA256=…"). Doubled backslashes of a drive path become one.
func TaskFromParams(k Kind, values map[string]string) (Task, error) {
	if _, err := ParseKind(string(k)); err != nil {
		return nil, err
	}
	p := newTextParams(k, values)
	task := p.task(k)
	if task == nil {
		return nil, errors.Join(p.problems...)
	}
	// What could not be read is a zero value now: Validate's complaint about that field would mislead.
	for _, err := range joinedErrors(task.Validate()) {
		field, _, _ := strings.Cut(err.Error(), ":")
		field = field[strings.LastIndexByte(field, '.')+1:]
		if !p.bad[field] {
			p.problems = append(p.problems, err)
		}
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	return task, nil
}

// textParams reads text values and collects what is wrong with them.
type textParams struct {
	problems
	given map[string]string // by parameter name
	bad   map[string]bool
}

func newTextParams(k Kind, values map[string]string) *textParams {
	p := &textParams{given: make(map[string]string), bad: make(map[string]bool)}
	var names []string
	for _, info := range Describe(k).Params {
		names = append(names, info.Name)
	}
	for _, word := range slices.Sorted(maps.Keys(values)) {
		name := paramName(names, word, values[word])
		switch _, twice := p.given[name]; {
		case name == "":
			p.problems = append(p.problems, fmt.Errorf("params%s: %s has no such parameter%s", keyStep(word), k, DidYouMean(word, names)))
		case twice:
			p.fail(name, errors.New("given twice, under two spellings"))
		default:
			p.given[name] = values[word]
		}
	}
	return p
}

// paramName finds the parameter a word stands for, or "".
func paramName(names []string, word, value string) string {
	loose := looseName(word)
	for _, name := range names {
		if looseName(name) == loose {
			return name
		}
	}
	alias := ""
	switch loose {
	case "md5", "md5hash":
		alias = "md5hash"
	case "sha256", "sha256hash":
		alias = "sha256hash"
	case "hash":
		alias = "md5hash"
		if digests := splitDigests(value); digests["sha256"] != "" && digests["md5"] == "" {
			alias = "sha256hash"
		}
	}
	switch {
	case slices.Contains(names, alias):
		return alias
	case alias != "" && slices.Contains(names, "hash"):
		return "hash"
	default:
		return ""
	}
}

func (p *textParams) fail(name string, err error) {
	p.bad[name] = true
	p.add(name, err)
}

func (p *textParams) task(k Kind) Task {
	switch k {
	case KindGetFile:
		return GetFile{MD5: p.digest("md5hash"), SHA256: p.digest("sha256hash"), Path: p.path("path")}
	case KindDeleteFile:
		return DeleteFile{
			MD5: p.digest("md5hash"), SHA256: p.digest("sha256hash"), Path: p.path("path"),
			SearchInSubfolders: p.flag("searchInSubfolders", false),
		}
	case KindQuarantineFile:
		return QuarantineFile{MD5: p.digest("md5hash"), SHA256: p.digest("sha256hash"), Path: p.path("path")}
	case KindIOCScan:
		return IOCScan{
			IOC: p.given["ioc"], IsolateHost: p.flag("isolateHost", false),
			ScanCriticalAreas: p.flag("scanCriticalAreas", false), QuarantineObject: p.flag("quarantineObject", false),
		}
	case KindStartProcess:
		return StartProcess{ExecutablePath: p.path("executablePath"), Arguments: p.given["arguments"], WorkingFolder: p.path("workingFolder")}
	case KindTerminateProcess:
		return TerminateProcess{
			MD5: p.digest("md5hash"), SHA256: p.digest("sha256hash"), Path: p.path("path"),
			CaseSensitive: p.flag("caseSensitive", false),
		}
	case KindIsolateHost:
		return IsolateHost{Action: p.action()}
	case KindPreventExecution:
		return PreventExecution{Hash: p.digest("hash"), Path: p.path("path"), CaseSensitive: p.flag("caseSensitive", false)}
	case KindOnDemandScan:
		return p.scan()
	case KindBlockAddress:
		return BlockAddress{Address: p.given["address"]}
	default:
		p.problems = append(p.problems, fmt.Errorf("unknown task %q", k))
		return nil
	}
}

func (p *textParams) path(name string) string { return singleBackslashes(p.given[name]) }

// digest takes the digest the parameter wants out of a labelled value or list; what is none stays as it is,
// for Validate to complain about.
func (p *textParams) digest(name string) string {
	value := strings.TrimSpace(p.given[name])
	digests := splitDigests(value)
	switch found := digests[strings.TrimSuffix(name, "hash")]; {
	case found != "":
		return found
	case name == "hash" && digests["md5"] != "":
		return digests["md5"]
	case name == "hash" && digests["sha256"] != "":
		return digests["sha256"]
	default:
		return value
	}
}

func (p *textParams) flag(name string, unset bool) bool {
	value, ok := p.given[name]
	if !ok {
		return unset
	}
	on, err := parseFlag(value)
	if err != nil {
		p.fail(name, err)
	}
	return on
}

// action has no default: an empty template must not read as a release.
func (p *textParams) action() int {
	value, ok := p.given["action"]
	switch strings.ToLower(value) {
	case "enable":
		return IsolationOn
	case "disable":
		return IsolationOff
	}
	on, err := parseFlag(value)
	switch {
	case !ok && !p.bad["action"], ok && value == "":
		p.fail("action", errors.New("required: 1 isolates, 0 releases"))
	case ok && err != nil:
		p.fail("action", fmt.Errorf("is %s, want 1 (on, enable) or 0 (off, disable)", show(value)))
	case on:
		return IsolationOn
	}
	return IsolationOff
}

func parseFlag(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	default:
		return false, fmt.Errorf("is %s, want true or false", show(value))
	}
}

func (p *textParams) scan() OnDemandScan {
	paths := splitPaths(p.given["path"])
	var types []ScanType
	for word := range strings.FieldsFuncSeq(p.given["type"], func(r rune) bool { return r == ',' || r == ' ' }) {
		t, err := ParseScanType(word)
		if err != nil {
			p.fail("type", err)
			continue
		}
		types = append(types, t)
	}
	switch {
	case len(types) == 0 && len(paths) > 0 && !p.bad["type"]:
		types = []ScanType{ScanFolder}
	case len(types) == 0 && !p.bad["type"]:
		p.fail("type", errors.New("required when no path is given"))
	case len(paths) > 0 && !p.bad["type"] && !slices.Contains(types, ScanFolder):
		p.fail("path", fmt.Errorf("only type %d (Folder) has a path", ScanFolder))
	}
	enabled, recursive := p.flag("enabled", true), p.flag("recursive", false)
	var t OnDemandScan
	for _, kind := range types {
		folders := []string{""}
		if kind == ScanFolder && len(paths) > 0 {
			folders = paths
		}
		for _, folder := range folders {
			t.Objects = append(t.Objects, ScanObject{Enabled: enabled, Path: folder, Recursive: recursive, Type: kind})
		}
	}
	if len(t.Objects) == 0 {
		// The reason stands under type; the zero object only keeps Validate from counting.
		t.Objects = []ScanObject{{}}
	}
	return t
}

func joinedErrors(err error) []error {
	if err == nil {
		return nil
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	return []error{err}
}

// splitPaths splits a list only before what begins like an absolute path, because names hold spaces.
func splitPaths(list string) []string {
	var paths []string
	for word := range strings.SplitSeq(list, " ") {
		absolute := strings.HasPrefix(word, "/") || hasDrive(word)
		if absolute || len(paths) == 0 {
			paths = append(paths, word)
		} else {
			paths[len(paths)-1] += " " + word
		}
	}
	for i := range paths {
		paths[i] = singleBackslashes(strings.Trim(paths[i], " "))
	}
	return slices.DeleteFunc(paths, func(s string) bool { return s == "" })
}

// singleBackslashes undoes the doubling that scripts need to get a path through a shell or JSON.
func singleBackslashes(path string) string {
	if !hasDrive(path) {
		return path
	}
	for strings.Contains(path, `\\`) {
		path = strings.ReplaceAll(path, `\\`, `\`)
	}
	return path
}

// splitDigests reads "MD5=…,SHA256=…" (the Hashes field of Sysmon), "sha256:…" or a bare digest, which is
// told by its length, and returns them in lower case by "md5" and "sha256".
func splitDigests(value string) map[string]string {
	digests := make(map[string]string)
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		label, digest := "", item
		if i := strings.IndexAny(item, "=:"); i >= 0 {
			label, digest = looseName(item[:i]), item[i+1:]
		} else if len(item) == 32 {
			label = "md5"
		} else if len(item) == 64 {
			label = "sha256"
		}
		if label == "md5" || label == "sha256" {
			digests[label] = strings.ToLower(digest)
		}
	}
	return digests
}
