package bridge_test

import (
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func newProtect(t testing.TB, cfg bridge.ProtectConfig) *bridge.Protect {
	t.Helper()
	p, err := bridge.NewProtect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func entries(patterns ...string) []bridge.ProtectEntry {
	var list []bridge.ProtectEntry
	for _, pattern := range patterns {
		list = append(list, bridge.ProtectEntry{Pattern: pattern, At: "edr-bridge.yaml:6"})
	}
	return list
}

// verdict is the text of a refusal, or "" when nothing protected is touched.
func verdict(t *testing.T, p *bridge.Protect, o bridge.Order, want bridge.Reason) string {
	t.Helper()
	reason, text := p.Check(o)
	if (reason == bridge.ReasonNone) != (text == "") {
		t.Errorf("reason %q with text %q", reason, text)
	}
	if text != "" && reason != want {
		t.Errorf("reason %q, want %q (%s)", reason, want, text)
	}
	return text
}

func TestA5ProtectedHostsAreRefusedByEveryNameTheyHave(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Hosts: entries("dc*", "ksc01.corp.example", "10.0.5.0/24", "192.0.2.1", "2001:db8::/64", "*.dmz.example", "172.16.9.*", "vip?.corp.example")})
	for name, c := range map[string]struct {
		host  string
		names []string
		want  string
	}{
		"glob":                          {host: "dc01", want: `"dc*" matches "dc01" (edr-bridge.yaml:6)`},
		"case":                          {host: "DC01", want: `"dc*" matches "DC01" (edr-bridge.yaml:6)`},
		"glob on FQDN":                  {host: "dc01.corp.example", want: `"dc*"`},
		"root dot":                      {host: "dc01.", want: `"dc*"`},
		"spaces":                        {host: " dc01 ", want: `"dc*"`},
		"domain in front":               {host: `CORP\DC01`, want: `"dc*"`},
		"FQDN":                          {host: "KSC01.corp.example", want: `"ksc01.corp.example"`},
		"short name of pattern":         {host: "ksc01", want: `"ksc01.corp.example"`},
		"short glob of pattern":         {host: "vip7", want: `"vip?.corp.example"`},
		"address in prefix":             {host: "10.0.5.17", want: `"10.0.5.0/24"`},
		"4in6 address":                  {host: "::ffff:10.0.5.17", want: `"10.0.5.0/24"`},
		"single address":                {host: "192.0.2.1", want: `"192.0.2.1"`},
		"IPv6":                          {host: "[2001:DB8::7]", want: `"2001:db8::/64"`},
		"address glob":                  {host: "172.16.9.8", want: `"172.16.9.*"`},
		"domain glob":                   {host: "web.dmz.example", want: `"*.dmz.example"`},
		"other name of the host":        {host: "b1d2c3", names: []string{"web1", "dc02.corp.example"}, want: `"dc*" matches "dc02.corp.example"`},
		"address of the host":           {host: "b1d2c3", names: []string{"web1", "10.0.5.3"}, want: `"10.0.5.0/24" matches "10.0.5.3"`},
		"hostile name":                  {host: "dc\u202e\x1b[2J", want: `"dc*" matches "dc\u202e\x1b[2J"`},
		"free":                          {host: "ws-0417"},
		"free FQDN":                     {host: "ws-0417.corp.example", names: []string{"10.0.6.1", "ws-0417"}},
		"same short name, other domain": {host: "ksc01.other.example"},
		"name holds the pattern":        {host: "adc01"},
		"address is no short name":      {host: "10.0.6.1"},
		"short name of a domain glob":   {host: "web"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, task := range wireTasks() {
				text := verdict(t, p, bridge.Order{Host: c.host, Intent: bridge.Intent{Names: c.names}, Task: task}, bridge.ReasonProtectedHost)
				if (text == "") != (c.want == "") || !strings.HasPrefix(text, c.want) {
					t.Errorf("%s: %q, want %q", task.Kind(), text, c.want)
				}
			}
		})
	}
	if reason, text := p.Check(bridge.Order{Host: "dc01", Task: bridge.IsolateHost{Action: bridge.IsolationOff}}); reason != bridge.ReasonNone {
		t.Errorf("a release of a protected host is refused: %s", text)
	}
	if reason, _ := p.Check(bridge.Order{Host: "dc01"}); reason != bridge.ReasonProtectedHost {
		t.Errorf("an order without a task passes: %q", reason)
	}
}

func TestProtectedProcessesAreRefused(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Processes: entries("backup-agent", "sql*.exe", "/opt/app/**", `C:\Tools\*\agent.exe`)})
	for name, c := range map[string]struct {
		path    string
		subject bridge.Process
		want    string
	}{
		"name anywhere":        {path: "/usr/local/bin/backup-agent", want: `"backup-agent"`},
		"name with .exe":       {path: `D:\x\Backup-Agent.EXE`, want: `"backup-agent"`},
		"pattern with .exe":    {path: "/usr/bin/sqlservr", want: `"sql*.exe"`},
		"name of the subject":  {subject: bridge.Process{PID: 7, Name: "backup-agent"}, want: `"backup-agent"`},
		"path of the subject":  {path: "/tmp/x", subject: bridge.Process{Path: "/opt/app/bin/x"}, want: `"/opt/app/**"`},
		"path glob":            {path: `C:\tools\v2\AGENT.exe`, want: `"C:\Tools\*\agent.exe" matches "C:\tools\v2\AGENT.exe" (edr-bridge.yaml:6)`},
		"deleted image":        {subject: bridge.Process{Path: "/opt/app/x (deleted)"}, want: `"/opt/app/**"`},
		"lsass":                {path: `C:\Windows\System32\lsass.exe`, want: `"?:\Windows\System32\lsass.exe" matches "C:\Windows\System32\lsass.exe" (built in): `},
		"lsass, slashes":       {path: `c:/windows//system32/LSASS.EXE`, want: `"?:\Windows\System32\lsass.exe"`},
		"lsass without drive":  {path: `/Windows/System32/lsass.exe`, want: `"?:\Windows\System32\lsass.exe"`},
		"lsass by short name":  {path: `C:\WINDOW~1\System32\lsass.exe`, want: `"?:\Windows\System32\lsass.exe"`},
		"winlogon":             {path: `D:\Windows\System32\winlogon.exe`, want: `"?:\Windows\System32\winlogon.exe"`},
		"Kaspersky agent":      {path: `C:\Program Files (x86)\Kaspersky Lab\NetworkAgent\klnagent.exe`, want: `"?:\Program Files*\Kaspersky Lab\**"`},
		"Kaspersky for Linux":  {path: "/opt/kaspersky/kesl/libexec/kesl", want: `"/opt/kaspersky/**"`},
		"init":                 {path: "/sbin/init", want: `"/sbin/init"`},
		"systemd":              {path: "/usr/lib/systemd/systemd-logind", want: `"/usr/lib/systemd/systemd*"`},
		"dbus":                 {path: "/usr/bin/dbus-broker-launch", want: `"/usr/bin/dbus-broker*"`},
		"sshd":                 {path: "/usr/sbin/sshd", want: `"/usr/sbin/sshd"`},
		"containerd":           {path: "/usr/bin/containerd-shim-runc-v2", want: `"/usr/bin/containerd*"`},
		"malware called lsass": {path: `C:\Users\Public\lsass.exe`},
		"malware called sshd":  {path: "/tmp/sshd", subject: bridge.Process{Name: "sshd"}},
		"other":                {path: `C:\Users\Public\a.exe`, subject: bridge.Process{Name: "a.exe", Path: `C:\Users\Public\a.exe`}},
		"digest only":          {subject: bridge.Process{PID: 7}},
		"shell":                {path: "/bin/sh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := verdict(t, p, bridge.Order{Host: "ws", Subject: c.subject, Task: bridge.TerminateProcess{Path: c.path, MD5: sampleMD5}}, bridge.ReasonProtectedProcess)
			if (text == "") != (c.want == "") || !strings.HasPrefix(text, c.want) {
				t.Errorf("%q, want %q", text, c.want)
			}
			image := c.path
			if c.subject.Path != "" {
				image = c.subject.Path
			}
			if image == "" {
				return
			}
			if reason, _ := p.CheckProcess(image); (reason != bridge.ReasonNone) != (c.want != "") {
				t.Errorf("CheckProcess(%q) = %q", image, reason)
			}
		})
	}
	if reason, text := p.CheckProcess(""); reason != bridge.ReasonProtectedProcess || text == "" {
		t.Errorf("an unknown image passes: %q %q", reason, text)
	}
	if text := verdict(t, p, bridge.Order{Host: "ws", Task: bridge.PreventExecution{Hash: sampleMD5, Path: "/srv/backup-agent"}}, bridge.ReasonProtectedProcess); text == "" {
		t.Error("a protected process may be kept from starting")
	}
	if text := verdict(t, p, bridge.Order{Host: "ws", Task: bridge.StartProcess{ExecutablePath: "/usr/bin/backup-agent"}}, ""); text != "" {
		t.Errorf("starting a program is refused: %s", text)
	}
}

func TestProtectedPathsAreRefused(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Paths: entries("/etc/app/**", `D:\Shares\*\payroll.xlsx`, "**/*.key")})
	for name, c := range map[string]struct{ path, want string }{
		"setting":                {"/etc/app/x/y", `"/etc/app/**" matches "/etc/app/x/y" (edr-bridge.yaml:6)`},
		"folder of a setting":    {"/etc/app", `"/etc/app/**"`},
		"folder above":           {"/etc", `"/etc/`},
		"glob in a name":         {`d:\shares\HR\Payroll.xlsx`, `"D:\Shares\*\payroll.xlsx"`},
		"anywhere":               {"/srv/tls/a.key", `"**/*.key"`},
		"anywhere, Windows":      {`C:\tls\a.KEY`, `"**/*.key"`},
		"passwd":                 {"/etc/passwd", `"/etc/passwd" matches "/etc/passwd" (built in): accounts`},
		"shadow with detours":    {"/etc//./shadow", `"/etc/shadow"`},
		"sudoers.d":              {"/etc/sudoers.d/admins", `"/etc/sudoers.d/**"`},
		"PAM":                    {"/etc/pam.d/sshd", `"/etc/pam.d/**"`},
		"shell":                  {"/bin/sh", `"/bin/**"`},
		"libc":                   {"/usr/lib/x86_64-linux-gnu/libc.so.6", `"/usr/lib/**"`},
		"loader":                 {"/lib64/ld-linux-x86-64.so.2", `"/lib64/**"`},
		"kernel":                 {"/boot/vmlinuz", `"/boot/**"`},
		"proc":                   {"/proc/self/root/tmp/a", `"/proc/**"`},
		"device":                 {"/dev/sda", `"/dev/*"`},
		"device below":           {"/dev/mapper/root", `"/dev/mapper/**"`},
		"System32":               {`C:\Windows\System32\drivers\etc\hosts`, `"?:\Windows\System32\**"`},
		"System32 by alias":      {`C:\Windows\Sysnative\cmd.exe`, `"?:\Windows\System32\**" matches "C:\Windows\Sysnative\cmd.exe"`},
		"System32, no drive":     {`/Windows/System32/cmd.exe`, `"?:\Windows\System32\**"`},
		"System32 with a dot":    {`/Windows/System32/cmd.exe.`, `"?:\Windows\System32\**"`},
		"System32 and a stream":  {`/Windows/System32:x/cmd.exe`, `"?:\Windows\System32\**"`},
		"folder above System32":  {`C:\Windows`, `"?:\Windows\System32\**"`},
		"explorer":               {`E:\Windows\explorer.exe`, `"?:\Windows\*.exe"`},
		"page file":              {`C:\pagefile.sys`, `"?:\pagefile.sys"`},
		"boot manager":           {`C:\bootmgr`, `"?:\bootmgr*"`},
		"EFI":                    {`S:\EFI\Microsoft\Boot\bootmgfw.efi`, `"?:\EFI\**"`},
		"Kaspersky":              {`C:\ProgramData\Kaspersky Lab\KES\Data\x`, `"?:\ProgramData\Kaspersky Lab\**"`},
		"Kaspersky by a link":    {`C:\Users\All Users\Kaspersky Lab\x`, `"?:\ProgramData\Kaspersky Lab\**"`},
		"Kaspersky by two links": {`C:\Documents and Settings\All Users\Application Data\Kaspersky Lab\x`, `"?:\ProgramData\Kaspersky Lab\**"`},
		"short names":            {`C:\PROGRA~1\KASPER~1\avp.exe`, `"?:\Program Files*\Kaspersky Lab\**"`},
		"short name hint":        {`C:\WINDOW~1\SYSTEM~1\cmd.exe`, `"?:\Windows\System32\**" matches "C:\WINDOW~1\SYSTEM~1\cmd.exe" (built in): programs and libraries of the system; the path holds a DOS short name`},
		"malware":                {`C:\Users\Public\a.exe`, ""},
		"temp by short names":    {`C:\DOCUME~1\ADMINI~1\LOCALS~1\Temp\a.exe`, ""},
		"program by short names": {`C:\PROGRA~1\WINDOW~2\a.exe`, ""},
		"malware by short name":  {`C:\Users\JOHNDO~1\AppData\Local\Temp\a.exe`, ""},
		"program":                {`C:\Program Files\App\a.exe`, ""},
		"share":                  {`D:\Shares\HR\virus.exe`, ""},
		"file beside":            {`D:\Shares\virus.exe`, ""},
		"tmp":                    {"/tmp/a", ""},
		"shared memory":          {"/dev/shm/.x/miner", ""},
		"usr local":              {"/usr/local/bin/miner", ""},
		"other etc":              {"/etc/cron.d/miner", ""},
		"library by name":        {"/library/a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, task := range []bridge.Task{
				bridge.DeleteFile{Path: c.path},
				bridge.QuarantineFile{Path: c.path},
				bridge.PreventExecution{Hash: sampleMD5, Path: c.path},
			} {
				text := verdict(t, p, bridge.Order{Host: "ws", Task: task}, bridge.ReasonProtectedPath)
				if (text == "") != (c.want == "") || !strings.HasPrefix(text, c.want) {
					t.Errorf("%s: %q, want %q", task.Kind(), text, c.want)
				}
			}
			if text := verdict(t, p, bridge.Order{Host: "ws", Task: bridge.GetFile{Path: c.path}}, ""); text != "" {
				t.Errorf("getFile only reads, but: %s", text)
			}
		})
	}
}

func TestDeletingInSubfoldersMustNotReachProtectedPaths(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Paths: entries("**/*.key", "/srv/**/vault/*.db")})
	for path, want := range map[string]bool{
		`C:\a.exe`: false, `/a.exe`: false, `C:\Windows\a.dll`: false, `C:\Windows\Temp\a.dll`: true, `C:\Program Files\a.exe`: false,
		`C:\Program Files\App\a.exe`: true, `C:\ProgramData\a.exe`: false, `C:\ProgramData\App\a.exe`: true, `C:\Users\a.exe`: true,
		"/usr/a": false, "/usr/local/a": true, "/etc/a": false, "/etc/cron.d/a": true, "/tmp/a": true, "/home/a": true, "/var/opt/a": false,
		"/home/a.key": false, "/home/a.KEY": false, "/home/akey": true,
		"/srv/a.db": false, "/srv/x/a.db": false, "/srv/x/vault/a.db": false, "/srv/x/a.exe": true,
		`C:\PROGRA~1\a.exe`: false, `C:\WINDOW~1\a.dll`: false, `C:\USERS~1\a.exe`: true, `C:\Users\JOHNDO~1\a.exe`: true,
		"/Windows/a.dll": false,
	} {
		text := verdict(t, p, bridge.Order{Host: "ws", Task: bridge.DeleteFile{Path: path, SearchInSubfolders: true}}, bridge.ReasonProtectedPath)
		if (text == "") != want {
			t.Errorf("%s with subfolders: allowed %t, %s", path, text == "", text)
		}
	}
}

func TestWhatCannotBeJudgedIsRefusedAsInvalid(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{})
	for _, path := range []string{`C:\Users\..\Windows\a.exe`, `\\?\C:\Windows\a.exe`, "a.exe", `C:\a.exe:x`, "/etc/*", `%windir%\a.exe`, "/tmp/\xff"} {
		for _, task := range []bridge.Task{bridge.DeleteFile{Path: path}, bridge.QuarantineFile{Path: path}, bridge.PreventExecution{Path: path}} {
			if reason, text := p.Check(bridge.Order{Host: "ws", Task: task}); reason == bridge.ReasonNone {
				t.Errorf("%s of %q passes", task.Kind(), path)
			} else if reason != bridge.ReasonInvalid && path != "a.exe" {
				t.Errorf("%s of %q: %q %s", task.Kind(), path, reason, text)
			}
		}
	}
	if reason, _ := p.Check(bridge.Order{Host: "ws", Task: bridge.TerminateProcess{Path: `C:\x\..\y`}}); reason != bridge.ReasonInvalid {
		t.Errorf("terminateProcess of a path with ..: %q", reason)
	}
	if reason, _ := p.Check(bridge.Order{Host: "ws", Task: bridge.BlockAddress{Address: "10.0.0.0/8"}}); reason != bridge.ReasonInvalid {
		t.Errorf("blockAddress of a wide prefix: %q", reason)
	}
	if reason, _ := p.Check(bridge.Order{Host: "ws", Task: &bridge.GetFile{}}); reason != bridge.ReasonInvalid {
		t.Errorf("a pointer to a task: %q", reason)
	}
}

func TestProtectedAddressesAreNotBlocked(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Addresses: entries("10.0.0.0/8", "192.0.2.53", "2001:db8:5::/48", "::ffff:198.51.100.9")})
	for address, want := range map[string]string{
		"10.1.2.3": `"10.0.0.0/8" matches "10.1.2.3" (edr-bridge.yaml:6)`, "10.1.2.0/24": `"10.0.0.0/8"`, "::ffff:10.1.2.3": `"10.0.0.0/8"`,
		"192.0.2.53": `"192.0.2.53"`, "192.0.2.0/24": `"192.0.2.53"`, "192.0.2.52/31": `"192.0.2.53"`, "192.0.2.54/31": "", "2001:db8:5:1::9": `"2001:db8:5::/48"`,
		"2001:db8:5:1::/64": `"2001:db8:5::/48"`, "198.51.100.9": `"::ffff:198.51.100.9"`, "203.0.113.7": "", "2001:db8:6::1": "",
		"169.254.169.254": `"169.254.169.254" matches "169.254.169.254" (built in): `, "169.254.169.0/24": `"169.254.169.254"`,
	} {
		text := verdict(t, p, bridge.Order{Host: "ws", Task: bridge.BlockAddress{Address: address}}, bridge.ReasonProtectedAddress)
		if (text == "") != (want == "") || !strings.HasPrefix(text, want) {
			t.Errorf("%s: %q, want %q", address, text, want)
		}
	}
}

func TestBadPatternsAreNamedWithTheirPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  bridge.ProtectConfig
		want string
	}{
		"empty host":        {bridge.ProtectConfig{Hosts: entries("")}, `protect.hosts: pattern "" is empty (edr-bridge.yaml:6)`},
		"bad prefix":        {bridge.ProtectConfig{Hosts: entries("10.0.5.0/33")}, `protect.hosts: pattern "10.0.5.0/33" is neither a host name`},
		"class":             {bridge.ProtectConfig{Hosts: entries("dc[0-9]")}, `protect.hosts: pattern "dc[0-9]" is neither`},
		"two hosts":         {bridge.ProtectConfig{Hosts: entries("dc01 dc02")}, "is neither a host name"},
		"empty process":     {bridge.ProtectConfig{Processes: entries(".exe")}, `protect.processes: pattern ".exe" is empty`},
		"relative process":  {bridge.ProtectConfig{Processes: entries("bin/x")}, `protect.processes: pattern "bin/x" is not absolute`},
		"relative path":     {bridge.ProtectConfig{Paths: entries("etc/**")}, `protect.paths: pattern "etc/**" is not absolute: start it with /, a drive letter`},
		"eaten backslashes": {bridge.ProtectConfig{Paths: entries("C:Windows")}, `protect.paths: pattern "C:Windows" has no separator after the drive letter`},
		"share":             {bridge.ProtectConfig{Paths: entries(`\\server\share\**`)}, "is a network or device path"},
		"stars in a name":   {bridge.ProtectConfig{Paths: entries("/etc/a**")}, "holds ** inside a name"},
		"dot dot":           {bridge.ProtectConfig{Paths: entries("/etc/../x")}, `holds ".."`},
		"variable":          {bridge.ProtectConfig{Paths: entries(`C:\%TEMP%\**`)}, "holds a variable"},
		"control":           {bridge.ProtectConfig{Paths: entries("/etc/\x1b")}, `pattern "/etc/\x1b" holds the control character U+001B`},
		"bad address":       {bridge.ProtectConfig{Addresses: entries("gateway")}, `protect.addresses: pattern "gateway" is neither an address nor a prefix like 10.0.5.0/24 (edr-bridge.yaml:6)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := bridge.NewProtect(c.cfg)
			wantError(t, err, c.want)
			if p != nil {
				t.Error("lists came with the error")
			}
		})
	}
	_, err := bridge.NewProtect(bridge.ProtectConfig{Hosts: entries("a b"), Paths: entries("x"), Addresses: entries("y")})
	if got := strings.Count(err.Error(), "\n") + 1; got != 3 {
		t.Errorf("%d problems reported, want all 3:\n%v", got, err)
	}
}

func BenchmarkProtectCheck(b *testing.B) {
	p := newProtect(b, bridge.ProtectConfig{Hosts: entries("dc*", "ksc01", "10.0.5.0/24"), Processes: entries("klnagent"), Paths: entries("/etc/**")})
	o := bridge.Order{
		Host: "ws-0417.corp.example", Intent: bridge.Intent{Names: []string{"ws-0417", "10.20.30.40"}},
		Subject: bridge.Process{Path: samplePath, Name: "a.exe"}, Task: bridge.TerminateProcess{Path: samplePath},
	}
	b.ReportAllocs()
	for b.Loop() {
		if reason, text := p.Check(o); reason != bridge.ReasonNone {
			b.Fatal(text)
		}
	}
}

func TestProtectKnowsAdministrationGroupsAndAllBelowThem(t *testing.T) {
	t.Parallel()
	p, err := bridge.NewProtect(bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{
		{Pattern: "group:Managed devices/Servers", At: "edr-bridge.yaml:6"}, {Pattern: "group:*/DC?"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		host   string
		names  []string
		refuse bool
	}{
		{"in the group", "ws-1", []string{"ws-1.corp.local", "group:Managed devices/Servers"}, true},
		{"below it, other case", "ws-1", []string{"group:managed devices/SERVERS/db"}, true},
		{"wildcards", "ws-1", []string{"group:Managed devices/DC1/old"}, true},
		{"another group", "ws-1", []string{"group:Managed devices/Workstations"}, false},
		{"a longer name", "ws-1", []string{"group:Managed devices/Servers2"}, false},
		{"a host that is called so", "Servers", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := bridge.Order{Host: tt.host, Task: bridge.IsolateHost{Action: bridge.IsolationOn}, Intent: bridge.Intent{Names: tt.names}}
			if reason, text := p.Check(o); (reason == bridge.ReasonProtectedHost) != tt.refuse {
				t.Errorf("got %q %s, want refused %v", reason, text, tt.refuse)
			}
		})
	}
	if _, err := bridge.NewProtect(bridge.ProtectConfig{Hosts: []bridge.ProtectEntry{{Pattern: "group: "}}}); err == nil {
		t.Error("a group without a name was taken")
	}
}

func TestFileTheExecutorFoundIsJudgedWhateverItsNameHolds(t *testing.T) {
	t.Parallel()
	p := newProtect(t, bridge.ProtectConfig{Paths: entries("/srv/keep/**")})
	for _, name := range []string{"plain", "ctl\x01", "latin\xe9", `back\slash`, "$HOME", "a:b"} {
		if reason, text := p.CheckFile("/tmp/" + name); reason != bridge.ReasonNone {
			t.Errorf("%q: %v, %s", name, reason, text)
		}
		if reason, text := p.CheckFile("/srv/keep/" + name); reason != bridge.ReasonProtectedPath {
			t.Errorf("%q below a protected folder: %v, %s", name, reason, text)
		}
	}
}
