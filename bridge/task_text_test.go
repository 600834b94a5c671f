package bridge_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

type values = map[string]string

func TestTextParametersMakeTypedTasks(t *testing.T) {
	t.Parallel()
	folder := func(path string) bridge.ScanObject {
		return bridge.ScanObject{Enabled: true, Path: path, Type: bridge.ScanFolder}
	}
	for name, c := range map[string]struct {
		values values
		want   bridge.Task
	}{
		"flag words":         {values{"path": "/a", "searchInSubfolders": "True"}, bridge.DeleteFile{Path: "/a", SearchInSubfolders: true}},
		"flag off":           {values{"path": "/a", "searchInSubfolders": "NO"}, bridge.DeleteFile{Path: "/a"}},
		"loose names":        {values{"Path": "/a", "search-in-subfolders": "1", "SHA256_hash": sampleSHA256}, bridge.DeleteFile{Path: "/a", SHA256: sampleSHA256, SearchInSubfolders: true}},
		"short names":        {values{"path": "/a", "md5": sampleMD5, "sha256": sampleSHA256}, bridge.GetFile{Path: "/a", MD5: sampleMD5, SHA256: sampleSHA256}},
		"hash by length":     {values{"hash": sampleSHA256}, bridge.TerminateProcess{SHA256: sampleSHA256}},
		"hash by length, 32": {values{"hash": sampleMD5}, bridge.TerminateProcess{MD5: sampleMD5}},
		"hash to prevent":    {values{"hash": sampleMD5, "caseSensitive": "off"}, bridge.PreventExecution{Hash: sampleMD5}},
		"md5 to prevent":     {values{"md5hash": sampleMD5}, bridge.PreventExecution{Hash: sampleMD5}},
		"Sysmon hashes": {
			values{"hash": "SHA1=DA39,MD5=44D88612FEA8A8F36DE82E1278ABB02F,SHA256=" + sampleSHA256, "path": "/a"},
			bridge.QuarantineFile{MD5: sampleMD5, Path: "/a"},
		},
		"Sysmon hashes by name": {
			values{"md5": "MD5=" + sampleMD5 + ",SHA256=" + sampleSHA256, "sha256": "sha256:" + sampleSHA256, "path": "/a"},
			bridge.QuarantineFile{MD5: sampleMD5, SHA256: sampleSHA256, Path: "/a"},
		},
		"doubled backslashes": {values{"path": `C:\\\\Users\\a.exe`}, bridge.GetFile{Path: `C:\Users\a.exe`}},
		"arguments as given":  {values{"executablePath": "/a", "arguments": `--x "a  b" \\c`}, bridge.StartProcess{ExecutablePath: "/a", Arguments: `--x "a  b" \\c`}},
		"action on":           {values{"action": "ON"}, bridge.IsolateHost{Action: 1}},
		"action enable":       {values{"action": "enable"}, bridge.IsolateHost{Action: 1}},
		"action true":         {values{"action": "true"}, bridge.IsolateHost{Action: 1}},
		"action 0":            {values{"action": "0"}, bridge.IsolateHost{Action: 0}},
		"action disable":      {values{"Action": "Disable"}, bridge.IsolateHost{Action: 0}},
		"IOC":                 {values{"ioc": sampleIOC, "isolateHost": "yes"}, bridge.IOCScan{IOC: sampleIOC, IsolateHost: true}},
		"address":             {values{"address": "203.0.113.7"}, bridge.BlockAddress{Address: "203.0.113.7"}},
		"scan type by number": {values{"type": "14"}, bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: 14}}}},
		"scan type by name":   {values{"type": "systemMemory,Email"}, bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: 14}, {Enabled: true, Type: 18}}}},
		"scan of a folder":    {values{"path": `C:\Program Files (x86)\a b`}, bridge.OnDemandScan{Objects: []bridge.ScanObject{folder(`C:\Program Files (x86)\a b`)}}},
		"scan of folders": {
			values{"path": `C:\Program Files\a  D:\\b c /srv/d`, "type": "Folder"},
			bridge.OnDemandScan{Objects: []bridge.ScanObject{folder(`C:\Program Files\a`), folder(`D:\b c`), folder("/srv/d")}},
		},
		"scan of folder and memory": {
			values{"path": "/a", "type": "22,14", "recursive": "1", "enabled": "0"},
			bridge.OnDemandScan{Objects: []bridge.ScanObject{{Path: "/a", Recursive: true, Type: 22}, {Recursive: true, Type: 14}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := bridge.TaskFromParams(c.want.Kind(), c.values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTextParametersReportEveryProblemOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind   bridge.Kind
		values values
		want   []string
	}{
		"unknown task": {"getfile", nil, []string{`unknown task "getfile", did you mean "getFile"?`}},
		"several": {bridge.KindDeleteFile, values{"pth": "/a", "md5": "x", "searchInSubfolders": "maybe"}, []string{
			`params.pth: deleteFile has no such parameter, did you mean "path"?`,
			`params.searchInSubfolders: is "maybe", want true or false`,
			`params.md5hash: is 1 characters long, want 32 hex digits`,
			`params.path: required`,
		}},
		"hostile name": {bridge.KindGetFile, values{"path": "/a", "\x1b[2J": "x"}, []string{`params["\x1b[2J"]: getFile has no such parameter`}},
		"hash without": {bridge.KindStartProcess, values{"executablePath": "/a", "hash": sampleMD5}, []string{`params.hash: startProcess has no such parameter`}},
		"two spellings": {bridge.KindGetFile, values{"path": "/a", "md5": sampleMD5, "md5hash": sampleMD5}, []string{
			`params.md5hash: given twice, under two spellings`,
		}},
		"eaten backslashes": {bridge.KindGetFile, values{"path": `C:Usersa`}, []string{
			`params.path: has no separator after the drive letter: backslashes were lost on the way, double them or quote the word`,
		}},
		"action missing":  {bridge.KindIsolateHost, nil, []string{`params.action: required: 1 isolates, 0 releases`}},
		"action empty":    {bridge.KindIsolateHost, values{"action": ""}, []string{`params.action: required: 1 isolates, 0 releases`}},
		"action unknown":  {bridge.KindIsolateHost, values{"action": "2"}, []string{`params.action: is "2", want 1 (on, enable) or 0 (off, disable)`}},
		"flag empty":      {bridge.KindPreventExecution, values{"hash": sampleMD5, "caseSensitive": ""}, []string{`params.caseSensitive: is "", want true or false`}},
		"nothing to scan": {bridge.KindOnDemandScan, nil, []string{`params.type: required when no path is given`}},
		"path of memory":  {bridge.KindOnDemandScan, values{"type": "14", "path": "/a"}, []string{`params.path: only type 22 (Folder) has a path`}},
		"folder without":  {bridge.KindOnDemandScan, values{"type": "22"}, []string{`params[0].path: required for type 22`}},
		"bad folder":      {bridge.KindOnDemandScan, values{"path": `/a b\c`}, []string{`params[0].path: mixes / and \: start a Windows path with its drive letter`}},
		"unknown type": {bridge.KindOnDemandScan, values{"type": "Floder", "path": "/a"}, []string{
			`params.type: "Floder" is no scan type, did you mean "Folder": want 14 SystemMemory, 15 StartupObjectsAndRunningProcesses, 16 DiskBootSectors, ` +
				`17 SystemBackupStorage, 18 Email, 22 Folder, 23 AllRemovableDrives, 24 AllNetworkDrives, 25 AllFixedDrives`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, err := bridge.TaskFromParams(c.kind, c.values)
			wantLines(t, err, c.want...)
			if task != nil {
				t.Errorf("a task came with the error: %+v", task)
			}
		})
	}
}

func TestScanTypesHaveNamesBothWays(t *testing.T) {
	t.Parallel()
	for n := range 30 {
		scanType := bridge.ScanType(n)
		back, err := bridge.ParseScanType(scanType.String())
		known := 14 <= n && n <= 18 || 22 <= n && n <= 25
		if known != (err == nil) || known && back != scanType {
			t.Errorf("type %d is %q, which parses to %d, %v", n, scanType, back, err)
		}
	}
}

func TestDescribeOfAnUnknownTaskIsEmpty(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(bridge.TaskInfo{Kind: "reboot"}, bridge.Describe("reboot")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
