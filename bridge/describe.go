package bridge

// TaskInfo tells people what a task is.
type TaskInfo struct {
	Kind    Kind   `json:"kind"`
	Summary string `json:"summary"`
	// KSC says that Kaspersky Security Center knows the task; the local agent knows all of them.
	KSC    bool        `json:"ksc"`
	Params []ParamInfo `json:"params"`
	// Undo says how to take the effect back; with Irreversible it says why that cannot be done.
	Undo         string `json:"undo"`
	Irreversible bool   `json:"irreversible"`
	// Note is what surprises people about the task; may be empty.
	Note string `json:"note,omitempty"`
}

// ParamInfo tells what one parameter of a task takes. The JSON name is the same in rules, on the command line
// and on the wire.
type ParamInfo struct {
	Name string `json:"name"`
	// Type is a word for people: path, text, md5, sha256, bool, base64, address …
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Meaning  string `json:"meaning"`
	// Example is a value as TaskFromParams takes it.
	Example string `json:"example"`
}

// Describe returns what there is to know about a task; for an unknown kind only Kind is set.
func Describe(k Kind) TaskInfo {
	info := TaskInfo{Kind: k, KSC: k.KSC()}
	switch k {
	case KindGetFile:
		info.Summary = "copy a file of the host to its quarantine; the original stays"
		info.Params = fileParams()
		info.Undo = "nothing to undo: delete the copy from the quarantine"
	case KindDeleteFile:
		info.Summary = "delete a file of the host"
		info.Params = append(fileParams(), flagParam("searchInSubfolders", "also look for the file name below its folder"))
		info.Undo = "none: the file is gone; quarantineFile can be undone"
		info.Irreversible = true
	case KindQuarantineFile:
		info.Summary = "move a file of the host to its quarantine"
		info.Params = fileParams()
		info.Undo = "restore the file from the quarantine of the host"
	case KindIOCScan:
		info.Summary = "look for indicators of compromise on the host"
		info.Params = []ParamInfo{
			{"ioc", "base64", true, "a ZIP archive of OpenIOC files (.ioc, .xml) as base64; send and the drop-in scripts take the path of the ZIP", "UEsDBBQ…"},
			flagParam("isolateHost", "on a hit, cut the host off the network"),
			flagParam("scanCriticalAreas", "on a hit, scan the critical areas"),
			flagParam("quarantineObject", "on a hit, quarantine what was found"),
		}
		info.Undo = "a scan changes nothing; what follows a hit is undone by isolateHost action=0 and the quarantine"
	case KindStartProcess:
		info.Summary = "run an executable on the host"
		info.Params = []ParamInfo{
			{"executablePath", "path", true, "absolute path of the executable", `C:\Tools\collect.exe`},
			{"arguments", "text", false, "the rest of the command line, in one text without control characters", "/all /quiet"},
			{"workingFolder", "path", false, "absolute path of the folder it starts in", `C:\Tools`},
		}
		info.Undo = "none: what the process does is done"
		info.Irreversible = true
	case KindTerminateProcess:
		info.Summary = "end every process of the host whose image fits all criteria"
		info.Params = []ParamInfo{
			md5Param, sha256Param,
			{"path", "path", false, "absolute path of the image; required when no digest is given", `C:\Users\Public\a.exe`},
			caseParam(),
		}
		info.Undo = "none: the process has to be started again"
		info.Irreversible = true
		info.Note = "one of path, md5hash and sha256hash is required; by digest alone every process of that image ends"
	case KindIsolateHost:
		info.Summary = "cut the host off the network, or let it back"
		info.Params = []ParamInfo{{"action", "0 or 1", true, "1 isolates (on, enable), 0 releases (off, disable)", "1"}}
		info.Undo = "isolateHost action=0; through KSC an isolation lasts until somebody sends it, or the product's own time limit ends it"
	case KindPreventExecution:
		info.Summary = "forbid a file to run on the host"
		info.Params = []ParamInfo{
			{"hash", "md5", false, "MD5 of the file, 32 hex digits; required by KSC, the local agent also takes a SHA-256, or a path alone", exampleMD5},
			{"path", "path", false, "absolute path of the file", `C:\Users\Public\a.exe`},
			caseParam(),
		}
		info.Undo = "remove the rule from the execution prevention of the host"
		info.Note = "the Execution Prevention switch of the KES policy must not conflict: the task cannot override the policy"
	case KindOnDemandScan:
		info.Summary = "scan the host for malware"
		info.Params = []ParamInfo{
			{"type", "number or name", false, "what to scan, several separated by commas: " + scanTypeList() + "; Folder when a path is given", "Folder"},
			{"path", "path", false, "absolute path of a folder, several separated by spaces; required for Folder and only taken there", `C:\Users D:\Shares`},
			flagParam("recursive", "also scan the subfolders"),
			{"enabled", "bool", false, "false keeps the object in the task without scanning it; default true", "true"},
		}
		info.Undo = "a scan has its own treatment settings: restore from the quarantine or backup of the host"
		info.Note = "one of type and path is required; on the wire and in rules the parameters are an array of such objects"
	case KindBlockAddress:
		info.Summary = "drop all traffic of this machine with an address, for a limited time"
		info.Params = []ParamInfo{{"address", "address", true, "IPv4 or IPv6 address, or a prefix no shorter than /24 or /64", "203.0.113.7"}}
		info.Undo = "ends by itself after the order's duration (10 minutes when unset)"
	default:
		info.KSC = false
	}
	return info
}

const (
	exampleMD5    = "44d88612fea8a8f36de82e1278abb02f"
	exampleSHA256 = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
)

var (
	md5Param    = ParamInfo{"md5hash", "md5", false, "MD5 of the file, 32 hex digits; when given it must match", exampleMD5}
	sha256Param = ParamInfo{"sha256hash", "sha256", false, "SHA-256 of the file, 64 hex digits; when given it must match", exampleSHA256}
)

func fileParams() []ParamInfo {
	return []ParamInfo{md5Param, sha256Param, {"path", "path", true, "absolute path of the file", `C:\Users\Public\a.exe`}}
}

func flagParam(name, meaning string) ParamInfo {
	return ParamInfo{name, "bool", false, meaning + "; default false", "true"}
}

func caseParam() ParamInfo {
	return flagParam("caseSensitive", "compare the path by exact case")
}
