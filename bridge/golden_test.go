package bridge_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var update = flag.Bool("update", false, "rewrite the goldens in testdata/wire")

// sampleIOC is a ZIP archive with one OpenIOC file, dropper.ioc, stored without compression.
const sampleIOC = "UEsDBBQACAAAAAAAAAAAAAAAAAAAAAAAAAALAAAAZHJvcHBlci5pb2M8aW9jIGlkPSIxIj48ZGVmaW5pdGlvbj48SW5kaWNhdG9yIG9wZXJhdG9yPSJPUiIvPjwvZGVmaW5pdGlvbj48L2lvYz5QSwcIsP74qkUAAABFAAAAUEsBAhQAFAAIAAAAAAAAALD++KpFAAAARQAAAAsAAAAAAAAAAAAAAAAAAAAAAGRyb3BwZXIuaW9jUEsFBgAAAAABAAEAOQAAAH4AAAAAAA=="

const (
	sampleMD5    = "44d88612fea8a8f36de82e1278abb02f"
	sampleSHA256 = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
)

// wireTasks are the tasks behind testdata/wire, one a kind.
func wireTasks() []bridge.Task {
	return []bridge.Task{
		bridge.GetFile{SHA256: sampleSHA256, Path: `C:\Users\Public\a.exe`},
		bridge.DeleteFile{MD5: sampleMD5, SHA256: sampleSHA256, Path: `C:\Users\Public\a.exe`, SearchInSubfolders: true},
		bridge.QuarantineFile{MD5: sampleMD5, Path: "/tmp/Счёт.bin"},
		bridge.IOCScan{IOC: sampleIOC, IsolateHost: true, QuarantineObject: true},
		bridge.StartProcess{ExecutablePath: `C:\Tools\collect.exe`, Arguments: `/out "C:\Temp" <all> & wait`, WorkingFolder: `C:\Tools`},
		bridge.TerminateProcess{Path: `C:\Users\Public\a.exe`, CaseSensitive: true},
		bridge.IsolateHost{Action: bridge.IsolationOn},
		bridge.PreventExecution{Hash: sampleMD5},
		bridge.OnDemandScan{Objects: []bridge.ScanObject{
			{Enabled: true, Type: bridge.ScanSystemMemory},
			{Enabled: true, Path: `C:\Users & Shares`, Recursive: true, Type: bridge.ScanFolder},
		}},
		bridge.BlockAddress{Address: "203.0.113.7"},
	}
}

func TestTaskParamsAreExactlyTheWireGoldens(t *testing.T) {
	t.Parallel()
	for _, task := range wireTasks() {
		t.Run(string(task.Kind()), func(t *testing.T) {
			t.Parallel()
			if err := task.Validate(); err != nil {
				t.Fatalf("the sample is not valid: %v", err)
			}
			got, err := bridge.EncodeParams(task)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "wire", string(task.Kind())+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.TrimSuffix(golden, []byte("\n"))
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("encoded params differ from %s (-want +got):\n%s", file, diff)
			}
			back, err := bridge.DecodeTask(task.Kind(), want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(task, back); diff != "" {
				t.Errorf("decoded task differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryKindHasGoldenDecoderDescriptionAndTextForm(t *testing.T) {
	t.Parallel()
	samples := make(map[bridge.Kind]bridge.Task)
	for _, task := range wireTasks() {
		samples[task.Kind()] = task
	}
	for _, kind := range bridge.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if samples[kind] == nil {
				t.Error("no sample in wireTasks")
			}
			if zero, err := bridge.NewTask(kind); err != nil || zero.Kind() != kind {
				t.Errorf("NewTask = %T, %v", zero, err)
			}
			golden, err := os.ReadFile(filepath.Join("testdata", "wire", string(kind)+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if task, err := bridge.DecodeTask(kind, golden); err != nil || task.Kind() != kind {
				t.Errorf("DecodeTask = %T, %v", task, err)
			}
			checkDescription(t, kind)
		})
	}
}

func checkDescription(t *testing.T, kind bridge.Kind) {
	t.Helper()
	info := bridge.Describe(kind)
	if info.Kind != kind || info.Summary == "" || info.Undo == "" || len(info.Params) == 0 || info.KSC != kind.KSC() {
		t.Errorf("the description is incomplete: %+v", info)
	}
	values := make(map[string]string)
	for _, p := range info.Params {
		if p.Name == "" || p.Type == "" || p.Meaning == "" || p.Example == "" {
			t.Errorf("parameter %+v is incomplete", p)
		}
		values[p.Name] = p.Example
	}
	if kind == bridge.KindIOCScan {
		values["ioc"] = sampleIOC // the example is an abbreviation
	}
	task, err := bridge.TaskFromParams(kind, values)
	if err != nil {
		t.Fatalf("the examples make no task: %v", err)
	}
	params, err := bridge.EncodeParams(task)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range info.Params {
		if !bytes.Contains(params, []byte(`"`+p.Name+`":`)) {
			t.Errorf("%s is described, but not in the params %s", p.Name, params)
		}
		if !p.Required {
			continue
		}
		without := make(map[string]string)
		for name, value := range values {
			if name != p.Name {
				without[name] = value
			}
		}
		if _, err := bridge.TaskFromParams(kind, without); err == nil {
			t.Errorf("%s is described as required, but the task is valid without it", p.Name)
		}
	}
}

func ExampleDecodeTask() {
	task, err := bridge.DecodeTask(bridge.KindTerminateProcess, []byte(`{"path": "C:\\Users\\Public\\a.exe", "caseSensitive": false}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %+v\n", task.Kind(), task)

	_, err = bridge.DecodeTask(bridge.KindIsolateHost, []byte(`{"Action": "1"}`))
	fmt.Println(err)
	// Output:
	// terminateProcess: {MD5: SHA256: Path:C:\Users\Public\a.exe CaseSensitive:false}
	// params.action: required
	// params.Action: no such parameter, did you mean "action"?
}
