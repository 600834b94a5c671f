package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// object is what names one image or file, in params and in the alert of an event.
type object struct{ path, md5, sha256 string }

// agrees says that nothing both name is different.
func (o object) agrees(with object) bool {
	same := func(a, b string) bool { return a == "" || b == "" || strings.EqualFold(a, b) }
	paths := o.path == "" || with.path == "" || bridge.NormalPath(o.path) == bridge.NormalPath(with.path)
	return paths && same(o.md5, with.md5) && same(o.sha256, with.sha256)
}

// complete adds to the params of a call what they leave out and the event tells: the process for terminateProcess, the file for
// tasks on files. Params that name another object than the event stay as they are, so that path and digest are always
// of one object. missing is the alert field that neither tells.
func complete(k bridge.Kind, params []byte, event *bridge.Alert) (full []byte, missing string, err error) {
	if len(params) == 0 {
		params = []byte("{}")
	}
	md5 := "md5hash"
	process := object{event.Process.Path, event.Process.MD5, event.Process.SHA256}
	file := object{event.File.Path, event.File.MD5, event.File.SHA256}
	from := file
	missing = "file.path"
	switch k {
	case bridge.KindTerminateProcess:
		from, missing = process, "process.path"
	case bridge.KindPreventExecution:
		// The task needs an MD5.
		md5, file.sha256, process.sha256 = "hash", "", ""
		if from, missing = file, "file.md5"; from.md5 == "" && process.md5 != "" {
			from = process
		}
	case bridge.KindGetFile, bridge.KindQuarantineFile, bridge.KindDeleteFile:
	case bridge.KindIOCScan, bridge.KindStartProcess, bridge.KindIsolateHost, bridge.KindOnDemandScan, bridge.KindBlockAddress:
		return params, "", nil
	default:
		return params, "", nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(params, &given); err != nil || given == nil {
		return nil, "", fmt.Errorf("params: is %s, want an object", excerpt(params))
	}
	own := object{path: textIn(given["path"]), md5: textIn(given[md5]), sha256: textIn(given["sha256hash"])}
	if !own.agrees(from) {
		return params, "", nil
	}
	for name, text := range map[string]string{"path": from.path, md5: from.md5, "sha256hash": from.sha256} {
		if text != "" && textIn(given[name]) == "" {
			given[name] = quoteJSON(text)
		}
	}
	needed := "path"
	if k == bridge.KindPreventExecution {
		needed = md5
	}
	if textIn(given[needed]) != "" {
		missing = ""
	}
	full, err = json.Marshal(given)
	return full, missing, err
}

// textIn returns a text of checked JSON, "" for anything else.
func textIn(token []byte) string {
	if token = bytes.TrimSpace(token); len(token) == 0 || token[0] != '"' {
		return ""
	}
	text, err := textOf(token)
	if err != nil {
		return ""
	}
	return text
}

// taskOf reads params as the vendor's or, when every one of them is text, as a command line gives them.
func taskOf(k bridge.Kind, params []byte) (bridge.Task, error) {
	var given map[string]json.RawMessage
	words := map[string]string{}
	if json.Unmarshal(params, &given) == nil {
		for name, value := range given {
			if value = bytes.TrimSpace(value); len(value) > 0 && value[0] == '"' {
				words[name] = textIn(value)
			}
		}
	}
	if len(given) > 0 && len(words) == len(given) {
		return bridge.TaskFromParams(k, words)
	}
	task, err := bridge.DecodeTask(k, params)
	if err == nil {
		err = task.Validate()
	}
	if err != nil {
		return nil, err
	}
	return task, nil
}

// places lists the places a preset looks at for a field, for people.
func (p *preset) places(field string) string {
	var names []string
	add := func(list []candidate) {
		for i := range list {
			for _, at := range list[i].parts {
				names = append(names, at.path)
			}
		}
	}
	for i := range p.findings {
		if f := &p.findings[i]; alertFields[f.field].name == field {
			add(f.candidates)
		}
	}
	if owner, digest, _ := strings.Cut(field, "."); len(names) == 0 && (digest == "md5" || digest == "sha256") {
		for _, c := range p.hashes {
			if c.intoFile == (owner == intoFile) {
				add([]candidate{c})
			}
		}
	}
	seen := map[string]bool{}
	for _, n := range names {
		seen[n] = true
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		first := seen[n]
		delete(seen, n)
		return !first
	})
	return strings.Join(names, " or ")
}
