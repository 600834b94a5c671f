package store_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// setup is what the settings of one start of the bridge say.
type setup struct {
	Ceiling                            bridge.Mode
	Hosts, Processes, Paths, Addresses []string // protected
	Limits                             []bridge.Limit
	Hours                              []bridge.Hours
	Approve                            []bridge.Kind // nil = the default
	FourEyes                           bool
	MaxAge, MaxAgePID                  time.Duration
	MaxAgeOf                           map[bridge.Kind]time.Duration
	FlapMax, UndoMax                   int
	FlapWithin, UndoPer                time.Duration
	Live                               bridge.LiveTasks
	Lease                              bridge.LeasePolicy
	Known                              int // hosts; 0 = nobody knows
	KSC, Local, Fallback               bool
}

// rule is one rule of the file.
type rule struct {
	Name, Mode, Match string
	Do                []string // as in templates
	Window            string   // dedupe.for; empty = the default
	ByUser            bool     // dedupe.by: [user]
	Count             int      // after; 0 = none
	Within            time.Duration
}

// alert is one document of a source.
type alert struct {
	Source, ID, Level, Host, User string
	Age                           time.Duration // against the moment it is delivered; noTime = it does not tell
	PID, Start                    int
	Image, File, IP, Title        string
}

const noTime = time.Duration(-1 << 62)

// step is one thing that happens.
type step struct {
	// What is alert, again, hand, hold, resume, approve, reject, cancel, wait, keeper or restart.
	What  string
	Alert alert // of alert
	// Task, Host and Who are of hand: a template, and who sends.
	Task, Host, Who string
	Via             bridge.Via
	// N picks among what there is to choose from; of approve and cancel: the orders, newest first.
	N    int
	Bad  bool          // of approve: the digest is not that of the order; of restart: the other settings from then on
	Wait time.Duration // of wait
}

// String shows what counts for the kind of step.
func (s step) String() string {
	switch s.What {
	case "alert":
		return fmt.Sprintf("alert%+v", s.Alert)
	case "hand":
		return fmt.Sprintf("hand{%s on %q via %s by %s}", s.Task, s.Host, s.Via, s.Who)
	case "wait":
		return "wait " + s.Wait.String()
	case "again":
		return fmt.Sprintf("again #%d", s.N)
	case "approve", "reject", "cancel":
		return fmt.Sprintf("%s #%d by %s, bad digest %t", s.What, s.N, s.Who, s.Bad)
	case "restart":
		return fmt.Sprintf("restart, other settings %t", s.Bad)
	default:
		return s.What
	}
}

// plan is one case: settings (and those some restarts bring), rules, a history, and what the world does meanwhile.
type plan struct {
	First, Other setup
	Window       time.Duration // dedupe of rules that do not say
	HookTasks    []bridge.Kind // what alerts of source hook may lead to; nil = all
	Rules        []rule
	Steps        []step
	Answers      []answer
	Finds        []bool
	Follows      []bridge.State
	InFlight     int
}

// GoString keeps rapid from showing the plan twice.
func (p plan) GoString() string { return "below" }

// String shows the plan so that a person can play it.
func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nsettings: %+v\n", p.First)
	if slices.ContainsFunc(p.Steps, func(s step) bool { return s.What == "restart" && s.Bad }) {
		fmt.Fprintf(&b, "other:    %+v\n", p.Other)
	}
	fmt.Fprintf(&b, "dedupe %s, hook may %v, in flight %d\n%s", p.Window, p.HookTasks, p.InFlight, p.yaml())
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%2d %s\n", i, s)
	}
	fmt.Fprintf(&b, "answers %v, searches %v, told %v", p.Answers, p.Finds, p.Follows)
	return b.String()
}

// yaml is the rule file of the plan.
func (p plan) yaml() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "  - name: %s\n    mode: %s\n    match: %s\n    do:\n", r.Name, r.Mode, r.Match)
		for _, word := range r.Do {
			fmt.Fprintf(&b, "      - %s\n", templates()[word].rule)
		}
		switch {
		case r.Window != "" && r.ByUser:
			fmt.Fprintf(&b, "    dedupe: {by: [user], for: %s}\n", r.Window)
		case r.Window != "":
			fmt.Fprintf(&b, "    dedupe: {for: %s}\n", r.Window)
		}
		if r.Count > 0 {
			fmt.Fprintf(&b, "    after: {count: %d, within: %s, by: [host]}\n", r.Count, r.Within)
		}
	}
	return b.String()
}

// template is a task as rules and as people ask for it.
type template struct {
	rule string
	hand bridge.Order
}

func templates() map[string]template {
	return map[string]template{
		"isolate":   {`{task: isolateHost, params: {action: 1}}`, bridge.Order{Task: bridge.IsolateHost{Action: bridge.IsolationOn}}},
		"short":     {`{task: isolateHost, params: {action: 1}, for: 2m}`, bridge.Order{Task: bridge.IsolateHost{Action: 1}, For: 2 * time.Minute}},
		"permanent": {`{task: isolateHost, params: {action: 1}, for: permanent}`, bridge.Order{Task: bridge.IsolateHost{Action: 1}, For: -1}},
		"user":      {`{task: isolateHost, params: {action: 1}, host: "${user}"}`, bridge.Order{Task: bridge.IsolateHost{Action: 1}}},
		"fixed":     {`{task: isolateHost, params: {action: 1}, host: dc01.corp.local}`, bridge.Order{Task: bridge.IsolateHost{Action: 1}}},
		"release":   {`{task: isolateHost, params: {action: 0}}`, bridge.Order{Task: bridge.IsolateHost{Action: bridge.IsolationOff}}},
		"kill":      {`{task: terminateProcess, params: {path: "${process.path}"}}`, bridge.Order{Task: bridge.TerminateProcess{Path: "/opt/x/klnagent"}}},
		"killhere":  {`{task: terminateProcess, subject: process}`, bridge.Order{Task: bridge.TerminateProcess{}, Subject: bridge.Process{PID: 104}}},
		"delete":    {`{task: deleteFile, params: {path: "${file.path}"}}`, bridge.Order{Task: bridge.DeleteFile{Path: `/srv/secret/a`}}},
		"deleteall": {
			`{task: deleteFile, params: {path: "${file.path}", searchInSubfolders: true}}`,
			bridge.Order{Task: bridge.DeleteFile{Path: `/srv/a`, SearchInSubfolders: true}},
		},
		"quarantine": {`{task: quarantineFile, params: {path: "${file.path}"}}`, bridge.Order{Task: bridge.QuarantineFile{Path: `C:\Secret\a.exe`}}},
		"prevent": {
			`{task: preventExecution, params: {hash: 44d88612fea8a8f36de82e1278abb02f, path: "${file.path}"}}`,
			bridge.Order{Task: bridge.PreventExecution{Hash: "44d88612fea8a8f36de82e1278abb02f"}},
		},
		"get":   {`{task: getFile, params: {path: "${file.path}"}}`, bridge.Order{Task: bridge.GetFile{Path: "/srv/secret/a"}}},
		"start": {`{task: startProcess, params: {executablePath: /opt/lab/x}}`, bridge.Order{Task: bridge.StartProcess{ExecutablePath: "/opt/lab/x"}}},
		"scan": {
			`{task: onDemandScan, params: [{enabled: true, path: "", recursive: false, type: 14}]}`,
			bridge.Order{Task: bridge.OnDemandScan{Objects: []bridge.ScanObject{{Enabled: true, Type: bridge.ScanSystemMemory}}}},
		},
		"ioc": {
			`{task: iocScan, params: {ioc: ` + iocArchive + `, isolateHost: true, scanCriticalAreas: false, quarantineObject: false}}`,
			bridge.Order{Task: bridge.IOCScan{IOC: iocArchive, IsolateHost: true}},
		},
		"block": {
			`{task: blockAddress, params: {address: "${source_ip}"}, for: 10m, host: bridge.corp.local}`,
			bridge.Order{Task: bridge.BlockAddress{Address: "203.0.113.99"}, For: 10 * time.Minute},
		},
	}
}

// iocArchive is a lawful archive of iocScan with one file, a.ioc.
const iocArchive = "UEsDBBQACAAAAAAAAAAAAAAAAAAAAAAAAAAFAAAAYS5pb2M8aW9jIGlkPSIxIj48ZGVmaW5pdGlvbi8+PC9pb2M+UEsHCJMQlycfAAAAHwAAAFBLAQIUABQACAAAAAAAAACTEJcnHwAAAB8AAAAFAAAAAAAAAAAAAAAAAAAAAABhLmlvY1BLBQYAAAAAAQABADMAAABSAAAAAAA="

// document is the alert as its source delivers it.
func (a alert) document(now time.Time) []byte {
	doc := map[string]any{}
	set := func(key string, v any, is bool) {
		if is {
			doc[key] = v
		}
	}
	set("level", a.Level, a.Level != "")
	set("title", a.Title, a.Title != "")
	set("source_ip", a.IP, a.IP != "")
	set("host", a.Host, a.Host != "")
	if a.Source == "legacy" {
		set("timestamp", now.Add(-a.Age).UTC().Format("2006-01-02T15:04:05.999999"), a.Age != noTime)
		set("actionable_pid", a.PID, a.PID != 0)
		set("start_ticks", a.Start, a.Start != 0)
		set("exe", a.Image, a.Image != "")
		set("details", a.ID, true)
	} else {
		set("id", a.ID, a.ID != "")
		set("time", now.Add(-a.Age).UTC().Format(time.RFC3339Nano), a.Age != noTime)
		set("user", a.User, a.User != "")
		set("process.pid", a.PID, a.PID != 0)
		set("process.start", a.Start, a.Start != 0)
		set("process.path", a.Image, a.Image != "")
		set("file.path", a.File, a.File != "")
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return []byte(err.Error())
	}
	if a.Title == "broken" {
		b = b[:len(b)-1]
	}
	return b
}

// pick draws a number below n, each with the same chance: those of rapid prefer small ones. It shrinks to 0.
func pick(t *rapid.T, label string, n int) int {
	const bits = 6
	x := 0
	for range bits {
		if x *= 2; rapid.Bool().Draw(t, label) {
			x++
		}
	}
	return x * n >> bits
}

func drawFrom[T any](t *rapid.T, label string, from ...T) T { return from[pick(t, label, len(from))] }

// some draws up to most of a list.
func some[T any](t *rapid.T, label string, most int, from ...T) []T {
	out := []T{}
	for range pick(t, label, most+1) {
		out = append(out, drawFrom(t, label, from...))
	}
	return out
}

// one is true once in n.
func one(t *rapid.T, label string, n int) bool { return pick(t, label, n) == n-1 }

func drawSetup(t *rapid.T) setup {
	s := setup{
		Ceiling: drawFrom(t, "ceiling", append(slices.Repeat([]bridge.Mode{bridge.ModeEnforce}, 14), bridge.ModeApprove, bridge.ModeApprove, bridge.ModeShadow, bridge.ModeOff, "")...),
		MaxAge:  drawFrom(t, "max age", 15*time.Minute, time.Minute, time.Hour), MaxAgePID: drawFrom(t, "max age of pids", time.Minute, 20*time.Second),
		Lease: bridge.LeasePolicy{Default: drawFrom(t, "lease", 30*time.Minute, 4*time.Hour)},
		Known: drawFrom(t, "known", 10, 0, 100), KSC: !one(t, "no KSC", 12), Local: !one(t, "no agent", 8), Fallback: rapid.Bool().Draw(t, "fallback"),
	}
	if rapid.Bool().Draw(t, "protects") {
		s.Hosts = some(t, "hosts", 2, "dc*", "DC01", "dc01.corp.local.", "*.branch.local", "10.0.5.0/24", "10.0.1.12", "10.0.5.*", "srv-??", "WS-2.",
			"group:Managed devices/Servers", "group:/managed devices/desks/*", "0ecd7a1c-0006-4a5b-8c0d-000000000006", "::ffff:10.0.9.0/120", "bridge")
		s.Paths = some(t, "paths", 2, "/srv/secret/**", `C:\Secret\**`, `?:\Vault\*.db`, "**/*.key", "/opt/db/data.bin", `D:/Keep/me.txt`)
		s.Processes = some(t, "processes", 2, "klnagent", "KLNAGENT.exe", "back*", "/opt/agent/**", `C:\Agent\*.exe`)
		s.Addresses = some(t, "addresses", 1, "203.0.113.0/28", "10.0.5.10")
	}
	if rapid.Bool().Draw(t, "limits") {
		for range 1 + pick(t, "limits", 2) {
			l := bridge.Limit{
				Task: drawFrom(t, "task", bridge.KindIsolateHost, bridge.KindTerminateProcess, ""), Max: 1 + pick(t, "max", 3),
				Per: drawFrom(t, "per", time.Minute, 10*time.Minute, time.Hour), By: drawFrom(t, "by", "", "", bridge.LimitByRule, bridge.LimitBySource),
			}
			if l.All = l.Task == ""; one(t, "share", 4) {
				l.Share, l.Max = drawFrom(t, "of all", 0.2, 0.02, 0.29), drawFrom(t, "and max", 0, 1)
			}
			s.Limits = append(s.Limits, l)
		}
	}
	if one(t, "hours", 5) {
		for range 1 + pick(t, "spans", 2) {
			h := bridge.Hours{
				Task: drawFrom(t, "task", "", bridge.KindIsolateHost), From: drawFrom(t, "from", 0, 22*time.Hour, 5*time.Minute),
				To: drawFrom(t, "to", 10*time.Minute, 24*time.Hour, 2*time.Hour), Zone: time.UTC,
			}
			if h.All = h.Task == ""; one(t, "days", 3) {
				h.Days = []time.Weekday{drawFrom(t, "day", time.Friday, time.Saturday, time.Sunday)}
			}
			s.Hours = append(s.Hours, h)
		}
	}
	if one(t, "approvals", 3) {
		s.Approve = append([]bridge.Kind{}, some(t, "tasks", 2, bridge.KindIsolateHost, bridge.KindTerminateProcess, bridge.KindDeleteFile)...)
		s.FourEyes = rapid.Bool().Draw(t, "four eyes")
	}
	if one(t, "damping", 3) {
		s.FlapMax, s.FlapWithin = 1+pick(t, "flaps", 3), 10*time.Minute
	}
	if one(t, "undo", 3) {
		s.UndoMax, s.UndoPer = 1+pick(t, "undone", 2), time.Hour
	}
	if one(t, "live tasks", 3) {
		s.Live = bridge.LiveTasks{Hold: drawFrom(t, "hold at", 1, 2, 4), Keep: pick(t, "keep", 2), PerHost: rapid.Bool().Draw(t, "per host")}
	}
	if one(t, "product", 3) {
		s.Lease.ProductOff, s.Lease.Reassert = time.Hour, rapid.Bool().Draw(t, "reassert")
	}
	if one(t, "max age of a task", 5) {
		s.MaxAgeOf = map[bridge.Kind]time.Duration{bridge.KindIsolateHost: 2 * time.Minute}
	}
	return s
}

func drawHost(t *rapid.T) string {
	if one(t, "odd host", 20) {
		return drawFrom(t, "host", "", "*", "localhost", "dc\u043e1", "ws-1.corp.local,dc01", "$(id)", strings.Repeat("a", 300), "dc01\u0000", "host:dc01", "group:x", "10.0.5.1.")
	}
	m := machines()[drawFrom(t, "machine", 0, 0, 0, 1, 1, 2, 3, ownMachine, ownMachine, 5)]
	name := drawFrom(t, "name", m.names()...)
	return spellings(name)[drawFrom(t, "spelling", append(make([]int, 20), 1, 1, 2, 2, 3, 4, 5, 6, 7, 8)...)]
}

// theme is what the steps and rules of one plan are mostly about: without it they would seldom meet.
type theme struct {
	story               string
	hosts, words, whats []string
}

func drawTheme(t *rapid.T) theme {
	var words []string
	for word := range templates() {
		words = append(words, word)
	}
	slices.Sort(words)
	th := theme{words: []string{drawFrom(t, "first word", append(words, "isolate", "isolate", "isolate", "isolate", "kill", "delete")...)}}
	th.words = append(th.words, some(t, "words", 2, words...)...)
	for range 1 + pick(t, "hosts", 3) {
		th.hosts = append(th.hosts, drawHost(t))
	}
	th.whats = []string{"alert", "alert", "alert", "wait", "hand", "approve", "again", "hold", "resume", "keeper", "release", "restart", "reject", "cancel"}
	th.story = drawFrom(t, "story", "all", "approvals", "releases", "alerts", "turns", "numbers", "undone", "here")
	switch th.story {
	case "approvals":
		th.whats = []string{"alert", "alert", "approve", "approve", "approve", "hand", "wait", "keeper", "restart"}
	case "releases":
		th.whats = []string{"alert", "alert", "release", "release", "wait", "keeper", "hold", "resume"}
	case "alerts", "numbers":
		th.whats = []string{"alert", "alert", "alert", "alert", "wait", "resume"}
	case "undone":
		th.words, th.hosts = []string{"isolate"}, []string{"ws-1.corp.local", "WS-2", "dc01.corp.local", "SRV-DB"}
		th.whats = []string{"alert", "alert", "alert", "release", "release", "wait"}
	case "here":
		th.words, th.hosts = []string{"killhere", "kill", "block"}, []string{machines()[ownMachine].fqdn, machines()[ownMachine].netbios}
		th.whats = []string{"alert", "alert", "alert", "wait", "hand", "keeper"}
	case "turns":
		th.words, th.whats = []string{"isolate", "short"}, []string{"alert", "alert", "release", "release", "wait", "approve"}
	}
	return th
}

func (th theme) host(t *rapid.T) string {
	if one(t, "another host", 6) {
		return drawHost(t)
	}
	return drawFrom(t, "which host", th.hosts...)
}

func drawAlert(t *rapid.T, th theme) alert {
	a := alert{
		Source: drawFrom(t, "source", "bus", "bus", "bus", "bus", "bus", "hook", "hook", "legacy"), ID: drawFrom(t, "id", "new", "new", "new", "new", "same", ""),
		Level: drawFrom(t, "level", "HIGH", "HIGH", "CRITICAL", "LOW", ""), Host: th.host(t),
		Age: drawFrom(t, "age", 0, 0, 0, 0, 0, 0, 0, 0, 0, time.Second, 30*time.Second, 5*time.Minute, 14*time.Minute+50*time.Second, 2*time.Hour, -time.Minute, -time.Hour, noTime),
	}
	if !one(t, "no process", 12) {
		a.PID, a.Start = 100+pick(t, "pid", 6), drawFrom(t, "start", 0, 7)
		a.Image = drawFrom(t, "plain image", `C:\Users\u\evil.exe`, "/tmp/evil")
	}
	if a.PID > 0 && one(t, "odd image", 3) {
		a.Image = drawFrom(t, "image", "/opt/x/klnagent", `C:\Tools\KLNAGENT.EXE`, `D:\backup7.exe`, `c:\agent\x.exe`, "/opt/agent/bin/helper",
			`C:\Windows\System32\lsass.exe`, `C:\PROGRA~1\Kaspersky Lab\avp.exe`, "/usr/sbin/sshd", "/OPT/AGENT/x", `C:\Users\..\Agent\x.exe`, "evil\u202eexe", "")
	}
	if !one(t, "no file", 12) {
		a.File = drawFrom(t, "plain file", `C:\Users\u\evil.exe`, "/tmp/evil", "/srv/a")
	}
	if one(t, "odd file", 3) {
		a.File = drawFrom(t, "file", "/srv/secret/a", "/srv//secret/./a", "/srv/secret", "/srv/secrets/a", "/srv/a", `C:\Secret\a.exe`, "c:/secret/b/c.exe",
			`C:\SECRET\\a.exe`, `\\?\C:\Secret\a.exe`, `C:\Secret\a.exe:x`, `C:\Temp\..\Secret\a.exe`, `C:\Secret \a.exe`, `E:\Vault\x.db`, `E:\Vault\b\x.db`, "/home/u/id.key",
			`C:\Users\u\id.KEY`, "/opt/db/data.bin", "/opt/db/x/data.bin", `d:\keep\ME.TXT`, `C:\WINDOWS\system32\drivers\x.sys`, "/usr/bin/ls", "/etc/shadow", `C:\PROGRA~1\Kaspersky Lab\avp.exe`,
			"/Secret/a.exe", "/tmp/\u202egpj.exe", "%TEMP%\\x", "x", "/etc/../srv/secret/a", "/tmp/a\u0000b", "/"+strings.Repeat("d/", 3000)+"x")
	}
	a.User = drawFrom(t, "user", "alice", "", "bob", "ws-2", "dc01", "bridge")
	a.IP = drawFrom(t, "ip", "203.0.113.99", "", "203.0.113.99", "203.0.113.5", "::ffff:203.0.113.5", "169.254.169.254", "10.0.5.10", "2001:db8::1")
	a.Title = drawFrom(t, "title", "", "", "x", "\x1b[2J", "${host}", "'; DROP TABLE orders; --", "broken")
	return a
}

func drawRule(t *rapid.T, words []string) rule {
	r := rule{
		Mode:  drawFrom(t, "mode", append(slices.Repeat([]string{"enforce"}, 9), "approve", "approve", "shadow", "off")...),
		Match: drawFrom(t, "match", "{}", "{}", "{level|gte: HIGH}", "{host|exists: true}", `{"host|startswith": [ws, "10.0"]}`, "{source: [bus, legacy]}"),
		Do:    append([]string{drawFrom(t, "do", words...)}, some(t, "and", 1, words...)...), Window: drawFrom(t, "window", "", "1m", "1h", "0s"),
	}
	r.ByUser = r.Window != "" && rapid.Bool().Draw(t, "by user")
	if one(t, "after", 8) {
		r.Count, r.Within = 2, 5*time.Minute
	}
	return r
}

func drawStep(t *rapid.T, th theme) step {
	s := step{What: drawFrom(t, "what", th.whats...)}
	who := func() string { return drawFrom(t, "who", "cli:alice", "cli:bob", "socket:alice (INC-1)") }
	switch s.What {
	case "alert":
		s.Alert = drawAlert(t, th)
	case "hand", "release":
		s.Task, s.Host, s.Who = drawFrom(t, "task", th.words...), th.host(t), who()
		if s.What == "release" {
			s.What, s.Task = "hand", "release"
		}
		s.Via = drawFrom(t, "via", bridge.ViaAuto, bridge.ViaAuto, bridge.ViaAuto, bridge.ViaAuto, bridge.ViaKSC, bridge.ViaLocal)
	case "approve", "reject", "cancel", "again":
		s.N, s.Bad, s.Who = drawFrom(t, "which", 0, 0, 0, 1, 2, 3), one(t, "bad", 4), who()
	case "wait":
		s.Wait = drawFrom(t, "wait", time.Second, 20*time.Second, 61*time.Second, 5*time.Minute, 11*time.Minute, 62*time.Minute, 5*time.Hour)
	case "restart":
		s.Bad = rapid.Bool().Draw(t, "other settings")
	}
	return s
}

// tell bends settings and rules so that the story gets to its point.
func (p *plan) tell(t *rapid.T, story string, hosts []string) {
	first := &p.First
	switch story {
	case "approvals":
		if rapid.Bool().Draw(t, "everything waits") {
			first.Ceiling, p.Other.Ceiling = bridge.ModeApprove, bridge.ModeApprove
		}
		if rapid.Bool().Draw(t, "for two people") {
			first.FourEyes, first.Approve = true, bridge.Kinds()
		}
	case "alerts":
		if len(first.Limits) == 0 {
			first.Limits = []bridge.Limit{{All: true, Max: 1 + pick(t, "at most", 2), Per: 10 * time.Minute}}
		}
	case "turns":
		first.FlapMax, first.FlapWithin, p.Rules[0].Window, p.Rules[0].ByUser = 1+pick(t, "turns", 2), 10*time.Minute, "0s", false
	case "undone":
		// Two hosts are isolated, two more wait for KSC; then people take the first two back.
		first.UndoMax, first.UndoPer, first.Hosts, first.Limits, p.InFlight = 1, time.Hour, nil, nil, 1
		p.Answers = []answer{{"ok", 0}, {"ok", 0}, {"ok", 3 * time.Minute}}
		var told []step
		for _, host := range hosts {
			told = append(told, step{What: "alert", Alert: alert{Source: "bus", ID: "new", Level: "HIGH", Host: host}})
		}
		for _, host := range hosts[:2] {
			told = append(told, step{What: "hand", Task: "release", Host: host, Who: "cli:alice", Via: bridge.ViaAuto})
		}
		p.Steps = append(told, p.Steps...)
	case "here":
		first.KSC, first.Local = rapid.Bool().Draw(t, "with KSC"), true
	case "numbers":
		p.Rules[0].Count, p.Rules[0].Within = 2, 5*time.Minute
	}
}

func drawPlan(t *rapid.T) plan {
	th := drawTheme(t)
	p := plan{
		First: drawSetup(t), Other: drawSetup(t), Window: drawFrom(t, "dedupe", 10*time.Minute, -1), InFlight: 1 + pick(t, "in flight", 2),
	}
	p.Steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step { return drawStep(t, th) }), 1, 14).Draw(t, "steps")
	p.Rules = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rule { return drawRule(t, th.words) }), 1, 3).Draw(t, "rules")
	for i := range p.Rules {
		p.Rules[i].Name = fmt.Sprint("r", i)
	}
	p.tell(t, th.story, th.hosts)
	if one(t, "hook is bound", 3) {
		p.HookTasks = append([]bridge.Kind{}, some(t, "hook may", 2, bridge.KindIsolateHost, bridge.KindTerminateProcess)...)
	}
	if rapid.Bool().Draw(t, "trouble") {
		p.Answers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) answer {
			return answer{
				drawFrom(t, "answer", "ok", "ok", "lost", "gone", "refused", "busy", "unreachable"), drawFrom(t, "takes", 0, 0, time.Second, 3*time.Minute),
			}
		}), 1, 6).Draw(t, "answers")
		p.Finds = some(t, "searches", 3, false, true)
	}
	p.Follows = some(t, "told", 6, "", bridge.StateRunning, bridge.StateDone, bridge.StateFailed)
	return p
}
