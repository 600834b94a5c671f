package callout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// task builds the typed task. With fromEvent the path and the digests may be left to the event.
func (p *argsParser) task(fromEvent bool) bridge.Task {
	t := p.read(fromEvent)
	if t == nil || len(p.problems) > 0 {
		return t // what could not be read is a zero value: complaints about it would mislead
	}
	checked := t
	if fromEvent {
		checked = callStandIns(t)
	}
	for _, err := range argsJoinedErrors(checked.Validate()) {
		p.invalid(err)
	}
	return t
}

func (p *argsParser) read(fromEvent bool) bridge.Task {
	switch p.kind {
	case bridge.KindGetFile:
		path, d := p.fileOf(fromEvent)
		return bridge.GetFile{MD5: d.md5, SHA256: d.sha256, Path: path}
	case bridge.KindDeleteFile:
		path, d := p.fileOf(fromEvent)
		return bridge.DeleteFile{MD5: d.md5, SHA256: d.sha256, Path: path, SearchInSubfolders: p.flag(optSubfolder, false)}
	case bridge.KindQuarantineFile:
		path, d := p.fileOf(fromEvent)
		return bridge.QuarantineFile{MD5: d.md5, SHA256: d.sha256, Path: path}
	case bridge.KindTerminateProcess:
		path := p.file(optPath)
		d := p.digests(path == "")
		if d == (argsDigests{}) && !fromEvent && !p.given(optMD5) && !p.given(optSHA256) && !p.given(optHash) {
			p.required(optPath)
		}
		return bridge.TerminateProcess{MD5: d.md5, SHA256: d.sha256, Path: path, CaseSensitive: p.flag(optCase, false)}
	case bridge.KindPreventExecution:
		return p.preventExecution(fromEvent)
	case bridge.KindIsolateHost:
		return bridge.IsolateHost{Action: p.action()}
	case bridge.KindStartProcess:
		t := bridge.StartProcess{ExecutablePath: p.file(optExec), Arguments: p.optional(optArguments), WorkingFolder: p.folder()}
		p.required(optExec)
		return t
	case bridge.KindIOCScan:
		return bridge.IOCScan{
			IOC: p.ioc(), IsolateHost: p.flag(optIsolate, false),
			ScanCriticalAreas: p.flag(optCritical, false), QuarantineObject: p.flag(optQuarant, false),
		}
	case bridge.KindOnDemandScan:
		return p.scan()
	case bridge.KindBlockAddress:
		word, _ := p.one(optAddress)
		if !fromEvent {
			p.required(optAddress)
		}
		return bridge.BlockAddress{Address: word}
	default:
		p.fail("", "", fmt.Sprintf("%s has no options here", p.kind), "")
		return nil
	}
}

func (p *argsParser) fileOf(fromEvent bool) (string, argsDigests) {
	path := p.file(optPath)
	if !fromEvent {
		p.required(optPath)
	}
	return path, p.digests(false)
}

// preventExecution goes by one digest; an MD5 is what KSC takes.
func (p *argsParser) preventExecution(fromEvent bool) bridge.Task {
	d := p.digests(true)
	hash := d.md5
	if hash == "" {
		hash = d.sha256
	}
	if hash == "" && !fromEvent && !p.given(optMD5) && !p.given(optSHA256) {
		p.required(optHash)
	}
	return bridge.PreventExecution{Hash: hash, Path: p.file(optPath), CaseSensitive: p.flag(optCase, false)}
}

// action has no default: an empty template must not read as a release.
func (p *argsParser) action() int {
	word, ok := p.one(optAction)
	if !ok {
		p.required(optAction)
		return bridge.IsolationOn
	}
	switch strings.ToLower(word) {
	case "1", "on", "true", "enable":
		return bridge.IsolationOn
	case "0", "off", "false", "disable":
		return bridge.IsolationOff
	default:
		p.fail(optAction, Excerpt(word), "--action is unknown", "want 1 (on, enable) to isolate or 0 (off, disable) to release")
		return bridge.IsolationOn
	}
}

// optional reads a text that may be empty on purpose.
func (p *argsParser) optional(option string) string {
	if words := p.line.words[option]; !words.cut && len(words.list) == 1 && words.list[0] == "" {
		return ""
	}
	word, _ := p.one(option)
	return word
}

func (p *argsParser) folder() string {
	if p.optional(optFolder) == "" {
		return ""
	}
	return p.file(optFolder)
}

// ioc takes the archive from a file of this machine or as text.
func (p *argsParser) ioc() string {
	text, asText := p.one(optIOCText)
	path, asPath := p.one(optIOC)
	switch {
	case asText && asPath:
		p.fail(optIOC, "", "--ioc and --ioc-base64 are both given", "give one")
	case asPath:
		encoded, err := argsReadIOC(path)
		if err != nil {
			p.fail(optIOC, Excerpt(path), "--ioc "+err.Error(), "want the absolute path of a ZIP archive with .ioc files")
		}
		return encoded
	case !asText && !p.given(optIOCText):
		p.required(optIOC)
	}
	return text
}

func argsReadIOC(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("is not absolute")
	}
	// Opening a pipe or a device could block or have an effect.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", errors.New("is no file that can be read here")
	}
	file, err := os.Open(path) //nolint:gosec // the caller names the file, and only an IOC archive is passed on
	if err != nil {
		return "", errors.New("is no file that can be read here")
	}
	encoded, err := bridge.EncodeIOC(file)
	return encoded, errors.Join(err, file.Close())
}

func (p *argsParser) scan() bridge.Task {
	paths := p.folders()
	types := p.scanTypes()
	switch {
	case len(types) == 0 && len(paths) > 0 && !p.given(optType):
		types = []bridge.ScanType{bridge.ScanFolder}
	case len(types) == 0 && !p.given(optPath) && !p.given(optType):
		p.fail(optPath, "", "--path or --type is required", "name folders, or what to scan (--type 14)")
	case len(paths) > 0 && len(types) > 0 && !slices.Contains(types, bridge.ScanFolder):
		p.fail(optPath, "", "--path is given, and --type names no folders", "add 22 (Folder) to --type")
	}
	enabled, recursive := p.flag(optEnabled, true), p.flag(optRecursive, false)
	var t bridge.OnDemandScan
	for _, kind := range types {
		folders := []string{""}
		if kind == bridge.ScanFolder && len(paths) > 0 {
			folders = paths
		}
		for _, folder := range folders {
			t.Objects = append(t.Objects, bridge.ScanObject{Enabled: enabled, Path: folder, Recursive: recursive, Type: kind})
		}
	}
	return t
}

func (p *argsParser) scanTypes() []bridge.ScanType {
	list, ok := p.one(optType)
	if !ok {
		return nil
	}
	var types []bridge.ScanType
	for word := range strings.SplitSeq(list, ",") {
		t, err := bridge.ParseScanType(strings.TrimSpace(word))
		switch {
		case err != nil:
			p.fail(optType, "", "--type "+err.Error(), "")
		case slices.Contains(types, t):
			p.fail(optType, Excerpt(list), "--type names a scope twice", "")
		default:
			types = append(types, t)
		}
	}
	return types
}

// invalid turns a complaint of Validate ("params.path: names a folder") into one about the option.
func (p *argsParser) invalid(err error) {
	field, what, ok := strings.Cut(err.Error(), ": ")
	name := field[strings.LastIndexByte(field, '.')+1:]
	if !ok {
		name, what = "", err.Error()
	}
	if name == optIOC && p.given(optIOCText) {
		name = optIOCText
	}
	option, known := argsFind(argsOptions(p.kind), name)
	if !known {
		p.fail("", "", err.Error(), "")
		return
	}
	p.fail(option.name, "", "--"+option.name+" "+what, "")
}

func argsJoinedErrors(err error) []error {
	if err == nil {
		return nil
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	return []error{err}
}

// callStandIns fills in what an event will bring, so that the rest can be validated.
func callStandIns(t bridge.Task) bridge.Task {
	const path, md5 = `C:\a`, "44d88612fea8a8f36de82e1278abb02f"
	switch t := t.(type) {
	case bridge.GetFile:
		t.Path = argsOr(t.Path, path)
		return t
	case bridge.DeleteFile:
		t.Path = argsOr(t.Path, path)
		return t
	case bridge.QuarantineFile:
		t.Path = argsOr(t.Path, path)
		return t
	case bridge.TerminateProcess:
		t.Path = argsOr(t.Path, path)
		return t
	case bridge.PreventExecution:
		t.Hash = argsOr(t.Hash, md5)
		return t
	case bridge.BlockAddress:
		t.Address = argsOr(t.Address, "203.0.113.7")
		return t
	case bridge.IOCScan, bridge.IsolateHost, bridge.OnDemandScan, bridge.StartProcess:
		return t
	default:
		return t
	}
}

func argsOr(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
