package ocsf

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// Activity is activity_id: the tactic of D3FEND (d3fend.mitre.org) the task belongs to.
type Activity int

// The values of activity_id (events/remediation/remediation_activity.json) that tasks have.
const (
	ActivityIsolate Activity = 1
	ActivityEvict   Activity = 2
	ActivityRestore Activity = 3
	ActivityDetect  Activity = 5
	ActivityOther   Activity = 99 // activity_name has the task
)

func (a Activity) caption() string {
	switch a {
	case ActivityIsolate:
		return "Isolate"
	case ActivityEvict:
		return "Evict"
	case ActivityRestore:
		return "Restore"
	case ActivityDetect:
		return "Detect"
	case ActivityOther:
		return "Other"
	default:
		return "Other"
	}
}

// name returns activity_name: the caption, or what the source calls it.
func (a Activity) name(task string) string {
	if a == ActivityOther && task != "" {
		return task
	}
	return a.caption()
}

// Countermeasure is the object d3fend.
type Countermeasure struct {
	Tactic    *Named `json:"d3f_tactic,omitempty"`
	Technique *Named `json:"d3f_technique,omitempty"`
}

// Named is a name with its id.
type Named struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// File is the object file.
type File struct {
	Name   string        `json:"name"`
	Path   string        `json:"path,omitempty"`
	Hashes []Fingerprint `json:"hashes,omitempty"`
	TypeID int           `json:"type_id"` // 1 = regular file
}

// Fingerprint is the object fingerprint.
type Fingerprint struct {
	AlgorithmID int    `json:"algorithm_id"` // 1 = MD5, 3 = SHA-256
	Algorithm   string `json:"algorithm"`
	Value       string `json:"value"`
}

// Process is the object process.
type Process struct {
	PID         int    `json:"pid"`
	Name        string `json:"name,omitempty"`
	CreatedTime int64  `json:"created_time,omitempty"` // milliseconds since 1970 UTC
	File        *File  `json:"file,omitempty"`
}

// ConnectionInfo is the object network_connection_info.
type ConnectionInfo struct {
	DirectionID int    `json:"direction_id"` // 99 = other
	Direction   string `json:"direction"`
}

// description is what a task is in the words of the schema.
type description struct {
	activity   Activity
	technique  Named // of D3FEND; empty = none fits
	class      Class
	file       *File
	process    *Process
	connection *ConnectionInfo
	target     string
}

func (d description) countermeasures() []Countermeasure {
	if d.activity == ActivityOther {
		return nil
	}
	c := Countermeasure{Tactic: &Named{Name: d.activity.caption()}}
	if d.technique.Name != "" {
		c.Technique = new(d.technique)
	}
	return []Countermeasure{c}
}

// describe returns what is known of a task: its kind, and with the order what it is about.
func describe(kind bridge.Kind, o bridge.Order) description {
	d := byKind(kind)
	d.class = ClassRemediation
	switch task := o.Task.(type) {
	case bridge.IsolateHost:
		d.activity, d.technique = ActivityIsolate, Named{"Network Isolation", "D3-NI"}
		if task.Action == bridge.IsolationOff {
			d.activity, d.technique = ActivityRestore, Named{"Restore Network Access", "D3-RNA"}
		}
		d.network()
	case bridge.BlockAddress:
		d.target = task.Address
		d.network()
	case bridge.TerminateProcess:
		d.ofProcess(o.Subject, task)
	case bridge.DeleteFile:
		d.ofFile(task.Path, task.MD5, task.SHA256)
	case bridge.QuarantineFile:
		d.ofFile(task.Path, task.MD5, task.SHA256)
	case bridge.GetFile:
		d.ofFile(task.Path, task.MD5, task.SHA256)
	case bridge.PreventExecution:
		md5, sha := task.Hash, ""
		if len(task.Hash) > 32 {
			md5, sha = "", task.Hash
		}
		d.ofFile(task.Path, md5, sha)
	case bridge.StartProcess:
		d.target = task.ExecutablePath
	case bridge.IOCScan, bridge.OnDemandScan, nil:
	}
	return d
}

// byKind returns what the name of a task tells alone. Whether isolateHost takes the network or gives it back is not in it.
func byKind(kind bridge.Kind) description {
	switch kind {
	case bridge.KindTerminateProcess:
		return description{activity: ActivityEvict, technique: Named{"Process Termination", "D3-PT"}}
	case bridge.KindDeleteFile:
		return description{activity: ActivityEvict, technique: Named{"File Eviction", "D3-FEV"}}
	case bridge.KindQuarantineFile:
		return description{activity: ActivityIsolate, technique: Named{"Content Quarantine", "D3-CQ"}}
	case bridge.KindPreventExecution:
		return description{activity: ActivityIsolate, technique: Named{"Executable Denylisting", "D3-EDL"}}
	case bridge.KindBlockAddress:
		return description{activity: ActivityIsolate, technique: Named{"Network Traffic Filtering", "D3-NTF"}}
	case bridge.KindIOCScan, bridge.KindOnDemandScan:
		return description{activity: ActivityDetect, technique: Named{"File Analysis", "D3-FA"}}
	case bridge.KindGetFile:
		return description{activity: ActivityDetect}
	case bridge.KindStartProcess, bridge.KindIsolateHost:
		return description{activity: ActivityOther}
	default:
		return description{activity: ActivityOther}
	}
}

// network makes it an event of the network: what is cut or given back goes both ways.
func (d *description) network() {
	d.class, d.connection = ClassNetwork, &ConnectionInfo{DirectionID: 99, Direction: "both"}
}

// ofFile makes it an event of a file that is named by its path; digests alone are no file name.
func (d *description) ofFile(path, md5, sha256 string) {
	if d.file = newFile(path, md5, sha256); d.file != nil {
		d.class = ClassFile
	}
}

// ofProcess makes it an event of a process that is named by its pid; a path means every process of that image.
func (d *description) ofProcess(p bridge.Process, task bridge.TerminateProcess) {
	if p.PID == 0 {
		d.target = task.Path
		return
	}
	d.class = ClassProcess
	path := p.Path
	if path == "" {
		path = task.Path
	}
	d.process = &Process{PID: p.PID, Name: p.Name, File: newFile(path, task.MD5, task.SHA256)}
	if !p.Started.IsZero() {
		d.process.CreatedTime = p.Started.UnixMilli()
	}
}

func newFile(path, md5, sha256 string) *File {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	if name == "" {
		return nil
	}
	f := &File{Name: name, Path: path, TypeID: 1}
	if md5 != "" {
		f.Hashes = append(f.Hashes, Fingerprint{1, "MD5", strings.ToLower(md5)})
	}
	if sha256 != "" {
		f.Hashes = append(f.Hashes, Fingerprint{3, "SHA-256", strings.ToLower(sha256)})
	}
	return f
}
