package mapping

import (
	"slices"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// row says where a preset finds one fact of an alert.
type row struct {
	// Path is the place in the document, dots between the names of nested objects.
	Path string
	// Field is the alert field it becomes; empty for a place that is checked and left to raw.<path>.
	Field string
	Note  string

	field int
}

// preset is the reading of one product's documents.
type preset struct {
	name, about string
	// naive says that a time without zone is a wall clock of this machine's zone.
	naive bool
	rows  []row
}

// presetTable lists the presets by name. A new product is a new entry, and code only where its documents
// hold shapes the kinds of fields do not cover.
var presetTable = []preset{
	{
		name:  "generic",
		about: "the bridge's own schema: nested objects or dotted names, RFC 3339 times with zone",
		rows: []row{
			{Path: "id", Field: "id", Note: "at most 256 bytes; without it a digest of the document"},
			{Path: "time", Field: "time", Note: "RFC 3339 with zone, else not known"},
			{Path: "level", Field: "level", Note: "LOW, INFO, MEDIUM, WARNING, HIGH, CRITICAL in any case"},
			{Path: "severity", Field: "level", Note: "another name of level"},
			{Path: "title", Field: "title"},
			{Path: "description", Field: "description"},
			{Path: "details", Field: "details"},
			{Path: "host", Field: "host"},
			{Path: "user", Field: "user"},
			{Path: "process.pid", Field: "process.pid", Note: "1 to 4194304"},
			{Path: "process.start", Field: "process.start", Note: "clock ticks since boot, field 22 of /proc/PID/stat"},
			{Path: "process.name", Field: "process.name", Note: "without it the file name of process.path"},
			{Path: "process.path", Field: "process.path"},
			{Path: "process.md5", Field: "process.md5"},
			{Path: "process.sha256", Field: "process.sha256"},
			{Path: "process.command_line", Field: "process.command_line"},
			{Path: "process.parent.name", Field: "process.parent.name", Note: "without it the file name of process.parent.path"},
			{Path: "process.parent.path", Field: "process.parent.path"},
			{Path: "file.path", Field: "file.path"},
			{Path: "file.md5", Field: "file.md5"},
			{Path: "file.sha256", Field: "file.sha256"},
			{Path: "source_ip", Field: "source_ip"},
			{Path: "destination_ip", Field: "destination_ip"},
		},
	},
	{
		name:  "python-edr",
		about: "the Python EDR sensor's alerts on Redis; the id is a digest of the document",
		naive: true,
		rows: []row{
			{Path: "level", Field: "level", Note: "LOW, INFO, MEDIUM, WARNING, HIGH, CRITICAL in any case"},
			{Path: "title", Field: "title"},
			{Path: "description", Field: "description"},
			{Path: "details", Field: "details"},
			{Path: "timestamp", Field: "time", Note: "datetime.isoformat(); without zone the local time of this machine"},
			{Path: "actionable_pid", Field: "process.pid", Note: "1 to 4194304"},
			{Path: "source_ip", Field: "source_ip"},
			{Path: "host", Field: "host", Note: "not sent by the Python sensor; the source's host setting stands in"},
			{Path: "start_ticks", Field: "process.start", Note: "clock ticks since boot, field 22 of /proc/PID/stat"},
			{Path: "exe", Field: "process.path", Note: "its file name becomes process.name"},
			{Path: "sha256", Field: "process.sha256"},
			{Path: "ppid", Note: "0 to 4194304; for rules as raw.ppid"},
			{Path: "parent_exe", Field: "process.parent.path", Note: "its file name becomes process.parent.name"},
		},
	},
}

// PresetInfo describes a preset for people.
type PresetInfo struct {
	// Name is the word used in settings, About one line of prose.
	Name, About string
	// Fields are the places it reads, in the order of its documentation.
	Fields []FieldInfo
}

// FieldInfo says where one fact of an alert comes from.
type FieldInfo struct {
	// Path is the place in the document, dots between the names of nested objects.
	Path string
	// Field is the alert field as rules name it; empty when the place is only checked.
	Field string
	// Type is one of text, id, level, time, pid, ticks, md5, sha256, address.
	Type string
	// Note tells limits and defaults, or is empty.
	Note string
}

// Presets describes all presets, ordered by name. The result is the caller's.
func Presets() []PresetInfo {
	infos := make([]PresetInfo, 0, len(presetTable))
	for i := range presetTable {
		p := &presetTable[i]
		info := PresetInfo{Name: p.name, About: p.about, Fields: make([]FieldInfo, 0, len(p.rows))}
		for _, r := range p.rows {
			k := kindPID
			if r.Field != "" {
				k = alertFields[fieldNamed(r.Field)].kind
			}
			info.Fields = append(info.Fields, FieldInfo{Path: r.Path, Field: r.Field, Type: k.String(), Note: r.Note})
		}
		infos = append(infos, info)
	}
	return infos
}

// String returns the word used for the kind in documentation.
func (k kind) String() string {
	words := [...]string{"none", "text", "id", "level", "time", "pid", "ticks", "md5", "sha256", "address", "raw"}
	if k < 0 || int(k) >= len(words) {
		return "none"
	}
	return words[k]
}

// compiledPreset returns the preset with the places of its fields filled in, or nil for an unknown name.
func compiledPreset(name string) *preset {
	for i := range presetTable {
		if presetTable[i].name != name {
			continue
		}
		p := presetTable[i]
		p.rows = slices.Clone(p.rows)
		for j := range p.rows {
			p.rows[j].field = fieldNamed(p.rows[j].Field)
		}
		return &p
	}
	return nil
}

func presetNames() []string {
	names := make([]string, 0, len(presetTable))
	for i := range presetTable {
		names = append(names, presetTable[i].name)
	}
	return names
}

// derive fills in what follows from other facts by definition.
func derive(a *bridge.Alert) {
	if a.Process.Name == "" && a.Process.Path != "" {
		a.Process.Name = bridge.BaseName(a.Process.Path)
	}
	if a.Process.ParentName == "" && a.Process.ParentPath != "" {
		a.Process.ParentName = bridge.BaseName(a.Process.ParentPath)
	}
}
