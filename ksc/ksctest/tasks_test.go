package ksctest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// taskServer runs a server whose background connection works on a settable clock.
func taskServer(t *testing.T, edit func(*Config)) (*Server, *client, *clock) {
	t.Helper()
	clk := newClock()
	cfg := testConfig()
	cfg.Now, cfg.BackgroundConnection, cfg.TaskDelay = clk.now, true, 10*time.Second
	if edit != nil {
		edit(&cfg)
	}
	s := startServer(t, cfg)
	return s, newSession(t, s), clk
}

func TestIncidentBecomesATaskAndRunsToItsEnd(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	s, c, clk := taskServer(t, func(cfg *Config) {
		cfg.OnTask = func(task Task) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, task.State.String())
		}
	})
	c.add(hostA, "2026-11-20T17:06:50Z", isolateA)
	if tasks := s.Tasks(); len(tasks) != 0 {
		t.Fatalf("a task before its time: %+v", tasks)
	}
	for _, want := range []HostState{StatePending, StateRunning, StateOK, StateOK} {
		clk.add(10 * time.Second)
		tasks := s.Tasks()
		if len(tasks) != 1 || tasks[0].State != want {
			t.Fatalf("want %v, got %+v", want, tasks)
		}
	}
	task := s.Tasks()[0]
	if !regexp.MustCompile(`^\[Response\]\[KUMA\] isolateHost - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - 1$`).MatchString(task.Name) {
		t.Errorf("name %q", task.Name)
	}
	start := newClock().now()
	if !task.Created.Equal(start.Add(10*time.Second)) || !task.Started.Equal(start.Add(20*time.Second)) || !task.Finished.Equal(start.Add(30*time.Second)) {
		t.Errorf("times %+v", task)
	}
	if i, _ := s.Incident(1); i.Handled || i.Problem != "" {
		t.Errorf("the handled flag is the client's: %+v", i)
	}
	waitFor(t, "OnTask", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 3 })
	if !slices.Equal(told, []string{"pending", "running", "ok"}) {
		t.Errorf("told %v", told)
	}
}

func TestTasksMoveByThemselvesOnTheRealClock(t *testing.T) {
	t.Parallel()
	ends := make(chan Task, 8)
	cfg := testConfig()
	cfg.BackgroundConnection, cfg.TaskDelay = true, 5*time.Millisecond
	cfg.OnTask = func(task Task) { ends <- task }
	c := newSession(t, startServer(t, cfg))
	c.add(hostA, noon, isolateA)
	for _, want := range []HostState{StatePending, StateRunning, StateOK} {
		select {
		case task := <-ends:
			if task.State != want {
				t.Errorf("got %v, want %v", task.State, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %v", want)
		}
	}
}

func TestWithoutBackgroundConnectionNoTaskIsMade(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, func(cfg *Config) { cfg.BackgroundConnection = false })
	c.add(hostA, noon, isolateA)
	clk.add(time.Hour)
	if tasks := s.Tasks(); len(tasks) != 0 || len(s.Incidents()) != 1 {
		t.Errorf("tasks %+v", tasks)
	}
	if r := c.call("ConEvents.IsAnyServiceConsoleAvailable", "{}"); r.text != `{"PxgRetVal":false}` {
		t.Errorf("got %s", r.text)
	}
	_, with, _ := taskServer(t, nil)
	if r := with.call("ConEvents.IsServiceConsoleAvailable", `{"wstrProdName":"KES","wstrProdVersion":"12.9"}`); r.text != `{"PxgRetVal":true}` {
		t.Errorf("got %s", r.text)
	}
}

func TestTaskFailsAsConfigured(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, func(cfg *Config) {
		cfg.TaskOutcome = func(task Task) (HostState, string) {
			if task.Host == hostB {
				return StateFailed, "Object not found"
			}
			return StateOK, ""
		}
	})
	c.add(hostA, noon, isolateA)
	c.add(hostB, noon, strings.ReplaceAll(isolateA, hostA, hostB))
	clk.add(time.Minute)
	tasks := s.Tasks()
	if len(tasks) != 2 || tasks[0].State != StateOK || tasks[1].State != StateFailed || tasks[1].Description != "Object not found" {
		t.Fatalf("tasks %+v", tasks)
	}
	var statistics map[string]int
	c.call("Tasks.GetTaskStatistics", `{"strTask":"`+tasks[1].ID+`"}`).field(t, "PxgRetVal", &statistics)
	if statistics["16"] != 1 || statistics["4"] != 0 || len(statistics) != 9 {
		t.Errorf("statistics %v", statistics)
	}
	history := c.call("Tasks.GetTaskHistory", `{"strTask":"`+tasks[1].ID+`","pFields2Return":["task_new_state"]}`)
	r := c.call("EventProcessing.GetRecordRange", `{"strIteratorId":"`+history.str(t, "strIteratorId")+`","nStart":0,"nEnd":9}`)
	if got := ids(t, itemsOf(t, r, "pParamsEvents", "KLEVP_EVENT_RANGE_ARRAY"), "task_new_state"); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("history %v", got)
	}
}

func TestNineBodiesAreTakenAndEachFaultIsNamed(t *testing.T) {
	t.Parallel()
	const (
		md5    = "d41d8cd98f00b204e9800998ecf8427e"
		sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		file   = `"md5hash":"","sha256hash":"` + sha256 + `","path":"C:\\a.exe"`
	)
	good := map[string]string{
		"getFile":          `{` + file + `}`,
		"quarantineFile":   `{` + file + `}`,
		"deleteFile":       `{` + file + `,"searchInSubfolders":true}`,
		"terminateProcess": `{` + file + `,"caseSensitive":false}`,
		"startProcess":     `{"executablePath":"C:\\a.exe","arguments":"/x"}`,
		"isolateHost":      `{"action":0}`,
		"preventExecution": `{"hash":"` + md5 + `","path":"","caseSensitive":true}`,
		"onDemandScan":     `[{"enabled":true,"path":"","recursive":false,"type":14},{"enabled":true,"path":"C:\\","recursive":true,"type":22}]`,
		"iocScan":          `{"ioc":"UEsDBA==","isolateHost":false,"scanCriticalAreas":true,"quarantineObject":false}`,
	}
	body := func(task, params string) string {
		return `{"targetHost": "h", "task": "` + task + `", "params": ` + params + `, "responseEventIncident": true, "responseEventIncidentArea": "Kuma"}`
	}
	for task, params := range good {
		if _, err := readTaskBody(body(task, params)); err != nil {
			t.Errorf("%s: %v", task, err)
		}
	}
	for text, want := range map[string]string{
		body("formatDisk", "{}"):            `task: "formatDisk"`,
		body("getFile", `{}`):               "params.path: required",
		body("getFile", `[]`):               "params: object expected",
		body("getFile", `null`):             "params: object expected",
		body("getFile", `{`+file+`,"x":1}`): "params.x: unknown",
		body("getFile", strings.Replace(good["getFile"], sha256, md5, 1)):                   "params.sha256hash: 64 hex digits",
		body("deleteFile", strings.Replace(good["deleteFile"], "true", `"true"`, 1)):        "params.searchInSubfolders: bool",
		body("terminateProcess", `{`+file+`}`):                                              "params.caseSensitive: required",
		body("startProcess", `{"executablePath":""}`):                                       "params.executablePath: must not be empty",
		body("startProcess", `{"executablePath":"a","arguments":1}`):                        "params.arguments: string",
		body("isolateHost", `{"action":"1"}`):                                               "params.action: number 0 or 1",
		body("isolateHost", `{"action":2}`):                                                 "params.action: number 0 or 1",
		body("isolateHost", `{}`):                                                           "params.action: required",
		body("preventExecution", `{"hash":"","path":"a","caseSensitive":true}`):             "params.hash: 32 hex digits",
		body("preventExecution", strings.Replace(good["preventExecution"], md5, sha256, 1)): "params.hash: 32 hex digits",
		body("onDemandScan", `{}`):                                                          "params: array",
		body("onDemandScan", `[]`):                                                          "params: array",
		body("onDemandScan", `[{"path":"","recursive":false,"type":14}]`):                   "params[0].enabled: required",
		body("onDemandScan", `[{"enabled":true,"path":"","recursive":false,"type":20}]`):    "params[0].type",
		body("iocScan", strings.Replace(good["iocScan"], "UEsDBA==", "/tmp/ioc.zip", 1)):    "params.ioc: base64",
		body("iocScan", strings.Replace(good["iocScan"], "UEsDBA==", "aGVsbG8=", 1)):        "params.ioc: base64 of a ZIP",
		strings.Replace(isolateA, `"responseEventIncident":true,`, "", 1):                   "responseEventIncident: must be true",
		strings.Replace(isolateA, `"Kuma"`, `"Other"`, 1):                                   "responseEventIncidentArea",
		strings.Replace(isolateA, `"targetHost"`, `"id":7,"targetHost"`, 1):                 `unknown field "id"`,
		strings.Replace(isolateA, hostA, "", 1):                                             "targetHost: required",
		"no JSON":                                                                           "body:",
		isolateA + "{}":                                                                     "more than one",
		`"isolateHost"`:                                                                     "body:",
	} {
		if _, err := readTaskBody(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestBodyThatIsNoTaskLeavesAnIncidentWithItsProblem(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, nil)
	c.add(hostA, noon, strings.Replace(isolateA, `"action":1`, `"action":"1"`, 1))
	c.add(hostA, noon, strings.ReplaceAll(isolateA, hostA, hostB))
	c.add(hostA, noon, isolateA)
	c.call("HostGroup.DeleteIncident", `{"nId":3}`)
	clk.add(time.Minute)
	if tasks := s.Tasks(); len(tasks) != 0 {
		t.Errorf("tasks %+v", tasks)
	}
	got := s.Incidents()
	if len(got) != 2 || !strings.Contains(got[0].Problem, "params.action") || !strings.Contains(got[1].Problem, "targetHost: differs") {
		t.Errorf("incidents %+v", got)
	}
}

func TestHundredAndFirstTaskOfAHostPushesTheOldestOut(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, nil)
	for i := range 103 {
		c.add(hostA, fmt.Sprintf("2026-11-20T%02d:%02d:00Z", i/60, i%60), isolateA)
	}
	c.add(hostB, noon, strings.ReplaceAll(isolateA, hostA, hostB))
	clk.add(10 * time.Second)
	tasks := s.Tasks()
	if len(tasks) != 101 || tasks[0].IncidentID != 4 || s.RotatedTasks() != 3 || tasks[0].State != StatePending {
		t.Fatalf("%d tasks, first of incident %d, %d rotated", len(tasks), tasks[0].IncidentID, s.RotatedTasks())
	}
	if code := c.refused("Tasks.GetTask", `{"strTask":"101"}`); code != codeNotFound {
		t.Errorf("code %d", code)
	}
	clk.add(time.Minute)
	for _, task := range s.Tasks() {
		if task.State != StateOK {
			t.Errorf("task %s stays %v", task.ID, task.State)
		}
	}
}

func TestTaskEndsAfterThirtyDays(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, nil)
	c.add(hostA, noon, isolateA)
	clk.add(10*time.Second + taskLife)
	if n := len(s.Tasks()); n != 1 {
		t.Fatalf("%d tasks on the last day", n)
	}
	clk.add(time.Second)
	if n := len(s.Tasks()); n != 0 {
		t.Errorf("%d tasks after it", n)
	}
	if r := c.call("Tasks.GetAllTasksOfHost", `{"strDomainName":"","strHostName":"`+hostA+`"}`); r.text != `{"PxgRetVal":[]}` {
		t.Errorf("got %s", r.text)
	}
}

func TestTaskCallsAnswerInTheVendorsShapes(t *testing.T) {
	t.Parallel()
	s, c, clk := taskServer(t, nil)
	c.add(hostA, noon, isolateA)
	c.add(hostA, noon, isolateA)
	clk.add(30 * time.Second)
	name := func(i int) string { return s.Tasks()[i].Name }
	for _, test := range []struct{ method, args, want string }{
		{"Tasks.GetAllTasksOfHost", `{"strDomainName":"","strHostName":"` + hostA + `"}`, `{"PxgRetVal":["101","102"]}`},
		{"Tasks.GetTask", `{"strTask":"101"}`, `{"PxgRetVal":{"DisplayName":"` + name(0) + `","PRTS_TASK_CREATION_DATE":{"type":"datetime","value":"2026-11-20T17:07:06Z"},"PRTS_TASK_GROUPID":-1,"TASKID_COMPONENT_NAME":"EDR","TASKID_PRODUCT_NAME":"KES","TASKID_VERSION":"12.9.0.0","TASK_NAME":"isolateHost","TASK_UNIQUE_ID":"101"}}`},
		{"Tasks.GetTaskStatistics2", `{"strTask":"101"}`, `{"PxgRetVal":{"1":0,"2":0,"4":1,"8":0,"16":0,"32":0,"64":0,"GNRL_COMPLETED_PERCENT":100,"KLTSK_NEED_RBT_CNT":0}}`},
	} {
		if r := c.call(test.method, test.args); r.text != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.method, r.text, test.want)
		}
	}
	status := c.call("Tasks.ResetHostIteratorForTaskStatusEx", `{"strTask":"101","pFields2Return":["hostname","hostdn","state_code","start_time","completed_percent"],"pFields2Order":[],"nHostStateMask":127,"nLifetime":300}`).str(t, "strHostIteratorId")
	if r := c.call("Tasks.GetHostStatusRecordsCount", `{"strHostIteratorId":"`+status+`"}`); r.text != `{"PxgRetVal":1}` {
		t.Errorf("count %s", r.text)
	}
	want := `{"PxgRetVal":1,"pParHostStatus":{"statuses":[{"type":"params","value":{"hostname":"` + hostA + `","hostdn":"WS-01","state_code":4,"start_time":{"type":"datetime","value":"2026-11-20T17:07:16Z"},"completed_percent":100}}]}}`
	for _, end := range []int{0, 1, 1000} { // the last index, the count, and beyond
		if r := c.call("Tasks.GetHostStatusRecordRange", fmt.Sprintf(`{"strHostIteratorId":"%s","nStart":0,"nEnd":%d}`, status, end)); r.text != want {
			t.Errorf("nEnd %d: %s", end, r.text)
		}
	}
	c.call("Tasks.ReleaseHostStatusIterator", `{"strHostIteratorId":"`+status+`"}`)
	none := c.call("Tasks.ResetHostIteratorForTaskStatusEx", `{"strTask":"101","pFields2Return":["hostname"],"nHostStateMask":16,"nLifetime":300}`).str(t, "strHostIteratorId")
	if r := c.call("Tasks.GetHostStatusRecordsCount", `{"strHostIteratorId":"`+none+`"}`); r.text != `{"PxgRetVal":0}` {
		t.Errorf("the mask lets through %s", r.text)
	}
	history := c.call("Tasks.GetTaskHistory", `{"strTask":"101","pFields2Return":["event_type","task_new_state","rise_time"],"pSortFields":[{"type":"params","value":{"Name":"rise_time","Asc":false}}],"strHostName":"","pFilter":{"event_type":"KLPRCI_TaskState"}}`).str(t, "strIteratorId")
	if r := c.call("EventProcessing.GetRecordCount", `{"strIteratorId":"`+history+`"}`); r.text != `{"PxgRetVal":2}` {
		t.Errorf("count %s", r.text)
	}
	if r := c.call("EventProcessing.GetRecordRange", `{"strIteratorId":"`+history+`","nStart":0,"nEnd":0}`); r.text != `{"pParamsEvents":{"KLEVP_EVENT_RANGE_ARRAY":[{"type":"params","value":{"event_type":"KLPRCI_TaskState","task_new_state":4,"rise_time":{"type":"datetime","value":"2026-11-20T17:07:26Z"}}}]}}` {
		t.Errorf("newest first: %s", r.text)
	}
	c.call("EventProcessing.ReleaseIterator", `{"strIteratorId":"`+history+`"}`)
	c.call("Tasks.DeleteTask", `{"strTask":"101"}`)
	if code := c.refused("Tasks.DeleteTask", `{"strTask":"101"}`); code != codeNotFound {
		t.Errorf("code %d", code)
	}
}

// walk reads an iterator to its end.
func walk(t *testing.T, c *client, method, args string) []string {
	t.Helper()
	var list []string
	for range 1000 {
		r := c.call(method, args)
		var data map[string]json.RawMessage
		r.field(t, "pTaskData", &data)
		if len(data) == 0 {
			if r.text != `{"pTaskData":{}}` {
				t.Errorf("end of list: %s", r.text)
			}
			return list
		}
		var id string
		if err := json.Unmarshal(data["TASK_UNIQUE_ID"], &id); err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	t.Fatal("no end")
	return nil
}

func TestIteratorsEndWithEmptyTaskData(t *testing.T) {
	t.Parallel()
	for _, hostTasksOnly := range []bool{false, true} {
		_, c, clk := taskServer(t, func(cfg *Config) { cfg.HostTasksOnly = hostTasksOnly })
		c.add(hostA, noon, isolateA)
		c.add(hostB, noon, strings.ReplaceAll(isolateA, hostA, hostB))
		clk.add(time.Minute)
		reset := func(args string) []string {
			iterator := `{"strTaskIteratorId":"` + c.call("Tasks.ResetTasksIterator", args).str(t, "strTaskIteratorId") + `"}`
			list := walk(t, c, "Tasks.GetNextTask", iterator)
			c.call("Tasks.ReleaseTasksIterator", iterator)
			return list
		}
		global := []string{"101", "102"}
		if hostTasksOnly {
			global = nil
		}
		for args, want := range map[string][]string{
			`{"nGroupId":0,"bGroupIdSignificant":true,"strProductName":null,"strVersion":null,"strComponentName":null,"strInstanceId":null,"strTaskName":null,"bIncludeSupergroups":true}`: global,
			`{"nGroupId":0,"bGroupIdSignificant":false,"strTaskName":"isolateHost"}`:                                                                                                       global,
			`{"nGroupId":7,"bGroupIdSignificant":true}`: nil,
			`{"strProductName":"Other"}`:                nil,
			`{"strTaskName":"getFile"}`:                 nil,
		} {
			if got := reset(args); !slices.Equal(got, want) {
				t.Errorf("host tasks only %v, %s: %v", hostTasksOnly, args, got)
			}
		}
		object := c.call("HostGroup.GetHostTasks", `{"strHostName":"`+hostB+`"}`).str(t, "PxgRetVal")
		for range 2 { // a second reset starts over
			c.call("HostTasks.ResetTasksIterator", `{"strSrvObjId":"`+object+`","strProductName":""}`)
			if got := walk(t, c, "HostTasks.GetNextTask", `{"strSrvObjId":"`+object+`"}`); !slices.Equal(got, []string{"102"}) {
				t.Errorf("tasks of the host: %v", got)
			}
		}
		c.call("HostTasks.GetTaskData", `{"strSrvObjId":"`+object+`","strTask":"102"}`)
		if code := c.refused("HostTasks.GetTaskData", `{"strSrvObjId":"`+object+`","strTask":"101"}`); code != codeNotFound {
			t.Errorf("task of another host: code %d", code)
		}
	}
}
