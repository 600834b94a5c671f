package sensor

import (
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// started builds an image from a command line.
func started(file string, args ...string) *image {
	return imageOf(file, false, func() []string { return args })
}

func line(im string) func() string { return func() string { return im } }

func TestBuiltInRulesKnowTheirChains(t *testing.T) {
	t.Parallel()
	rules, err := DefaultRules()
	if err != nil {
		t.Fatal(err)
	}
	set, err := compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	sh := started("/usr/bin/dash", "sh", "-c", "id")
	for _, tt := range []struct {
		name          string
		parent, child *image
		parentLine    string
		want          string
	}{
		{"the chain every page tells", started(`/srv/winword.exe`), started(`/srv/powershell.exe`), "", "office-starts-shell"},
		{"any case", started(`/srv/WinWord.EXE`), started(`/srv/PowerShell.exe`), "", "office-starts-shell"},
		{"paths of Windows", started(`C:\Office\WINWORD.EXE`), started(`C:\Windows\System32\cmd.exe`), "", "office-starts-shell"},
		{"a script called so", started("/usr/bin/dash", "/bin/sh", "/tmp/winword.exe"), started("/usr/bin/dash", "/bin/sh", "/tmp/powershell.exe"), "", "office-starts-shell"},
		{"nginx", started("/usr/sbin/nginx"), sh, "", "web-server-starts-shell"},
		{"php of a version", started("/usr/sbin/php-fpm8.2"), sh, "", "web-server-starts-shell"},
		{"apache2", started("/usr/sbin/apache2"), started("/usr/bin/python3.11", "python3", "-c", "x"), "", "web-server-starts-shell"},
		{"gunicorn is a script", started("/usr/bin/python3.11", "/usr/bin/python3", "/usr/bin/gunicorn", "app:app"), sh, "", "web-server-starts-shell"},
		{"perl of a version", started("/usr/sbin/nginx"), started("/usr/bin/perl5.36.0", "perl"), "", "web-server-starts-shell"},
		{"applet of busybox", started("/usr/sbin/nginx"), started("/bin/busybox", "wget", "http://x"), "", "web-server-starts-shell"},
		{"busybox named itself", started("/usr/sbin/nginx"), started("/bin/busybox", "busybox", "nc"), "", "web-server-starts-shell"},
		{"tomcat", started("/usr/bin/java"), sh, "java -Dcatalina.base=/srv", "java-server-starts-shell"},
		{"another java", started("/usr/bin/java"), sh, "java -jar build.jar", ""},
		{"java of unknown line", started("/usr/bin/java"), sh, "", ""},
		{"postgres", started("/usr/lib/postgresql/15/bin/postgres"), sh, "", "database-starts-shell"},
		{"redis", started("/usr/bin/redis-server"), started("/usr/bin/bash"), "", "database-starts-shell"},
		{"exim4", started("/usr/sbin/exim4"), sh, "", "mail-server-starts-shell"},
		{"sftp", started("/usr/lib/openssh/sftp-server"), sh, "", "network-service-starts-shell"},
		{"soffice", started("/usr/lib/libreoffice/program/soffice.bin"), sh, "", "document-viewer-starts-shell"},
		{"a shell of a person", started("/usr/bin/bash"), started("/usr/bin/curl"), "", ""},
		{"worker of a server", started("/usr/sbin/nginx"), started("/usr/sbin/nginx"), "", ""},
		{"sshd session", started("/usr/sbin/sshd"), started("/usr/bin/bash"), "", ""},
		{"a name in an argument is none", started("/usr/bin/python3", "python3", "-c", "winword.exe"), started("/srv/powershell.exe"), "", ""},
		{"longer name", started("/usr/sbin/nginx-helper"), sh, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if r := set.match(chain{tt.parent, tt.child, line(""), line(tt.parentLine)}); r != nil {
				got = r.Name
			}
			if got != tt.want {
				t.Errorf("rule %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBuiltInRulesKnowFilesBehindLinks(t *testing.T) {
	t.Parallel()
	rules, err := DefaultRules()
	if err != nil {
		t.Fatal(err)
	}
	set, err := compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	// What the links of Debian 12 end at.
	for _, tt := range []struct{ parent, child string }{
		{"/usr/bin/redis-check-rdb", "/usr/bin/dash"},
		{"/usr/bin/valkey-check-rdb", "/usr/bin/dash"},
		{"/usr/bin/keydb-check-rdb", "/usr/bin/dash"},
		{"/usr/bin/uwsgi-core", "/usr/bin/dash"},
		{"/usr/sbin/exim4", "/usr/bin/dash"},
		{"/usr/libexec/sendmail/sendmail-mta", "/usr/bin/dash"},
		{"/usr/sbin/apache2", "/usr/bin/x86_64-linux-gnu-gcc-12"},
		{"/usr/sbin/apache2", "/usr/bin/aarch64-linux-gnu-gcc-12"},
		{"/usr/sbin/apache2", "/usr/bin/nc.openbsd"},
		{"/usr/sbin/nginx", "/usr/bin/nc.traditional"},
		{"/usr/sbin/vsftpd", "/usr/bin/nc.openbsd"},
		{"/usr/sbin/nginx", "/usr/bin/telnet.netkit"},
		{"/usr/sbin/mariadbd", "/usr/bin/inetutils-telnet"},
		{"/usr/sbin/php-fpm8.2", "/usr/bin/tnftp"},
		{"/usr/sbin/nginx", "/usr/bin/perl5.36.0"},
		{"/usr/sbin/nginx", "/usr/lib/llvm-14/bin/clang"},
	} {
		if set.match(chain{started(tt.parent), started(tt.child), line(""), line("")}) == nil {
			t.Errorf("no rule for %s, which starts %s", tt.parent, tt.child)
		}
	}
	// And those of this machine.
	for _, r := range rules {
		for _, names := range [][]string{r.Parents, r.Children} {
			for _, name := range names {
				link, err := exec.LookPath(name)
				if err != nil {
					continue
				}
				file, err := filepath.EvalSymlinks(link)
				if err != nil {
					t.Fatal(err)
				}
				if !containsAny(nameSet(names), started(file).names) && !isMulticall(baseName(file)) {
					t.Errorf("rule %s names %s, which is %s here", r.Name, name, file)
				}
			}
		}
	}
}

func TestConditionsOfARule(t *testing.T) {
	t.Parallel()
	base := Rule{Name: "r", Level: LevelLow, Title: "t", Parents: []string{"p"}, Children: []string{"c"}}
	with := func(change func(*Rule)) Rule {
		r := base
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name              string
		rule              Rule
		child             string
		childLine, parent string
		want              bool
	}{
		{"names alone", base, "/c", "", "", true},
		{"another child", base, "/d", "", "", false},
		{"any child", with(func(r *Rule) { r.Children = []string{"*"} }), "/d", "", "", true},
		{"text in any case", with(func(r *Rule) { r.CommandLine = []string{"-ENC "} }), "/c", "c -enc x", "", true},
		{"text is missing", with(func(r *Rule) { r.CommandLine = []string{"-enc"} }), "/c", "c", "", false},
		{"one of two", with(func(r *Rule) { r.CommandLine = []string{"x", "y"} }), "/c", "c y", "", true},
		{"expression", with(func(r *Rule) { r.CommandLine = []string{"/^c [0-9]+$/"} }), "/c", "c 12", "", true},
		{"expression fails", with(func(r *Rule) { r.CommandLine = []string{"/^c [0-9]+$/"} }), "/c", "c 12a", "", false},
		{"a path is no expression", with(func(r *Rule) { r.CommandLine = []string{"/tmp"} }), "/c", "c /TMP/x", "", true},
		{"unknown line fulfils nothing", with(func(r *Rule) { r.CommandLine = []string{"/.*/"} }), "/c", "", "", false},
		{"parent line", with(func(r *Rule) { r.ParentCommandLine = []string{"--serve"} }), "/c", "", "p --serve", true},
		{"parent line fails", with(func(r *Rule) { r.ParentCommandLine = []string{"--serve"} }), "/c", "", "p", false},
		{"exception by child", with(func(r *Rule) { r.Except = []Exception{{Children: []string{"C"}}} }), "/c", "", "", false},
		{"exception by another child", with(func(r *Rule) { r.Except = []Exception{{Children: []string{"d"}}} }), "/c", "", "", true},
		{"exception by line", with(func(r *Rule) { r.Except = []Exception{{CommandLine: []string{"ok"}}} }), "/c", "c ok", "", false},
		{"exception needs all", with(func(r *Rule) {
			r.Except = []Exception{{Parents: []string{"p"}, CommandLine: []string{"ok"}, ParentCommandLine: []string{"y"}}}
		}), "/c", "c ok", "p", true},
		{"second exception", with(func(r *Rule) {
			r.Except = []Exception{{Children: []string{"d"}}, {ParentCommandLine: []string{"y"}}}
		}), "/c", "c", "p y", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := compile([]Rule{tt.rule})
			if err != nil {
				t.Fatal(err)
			}
			if got := set.match(chain{started("/p"), started(tt.child), line(tt.childLine), line(tt.parent)}) != nil; got != tt.want {
				t.Errorf("match %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFirstRuleThatMatchesDecides(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "b", Level: LevelLow, Title: "t", Parents: []string{"python3.11"}, Children: []string{"x"}},
		{Name: "a", Level: LevelLow, Title: "t", Parents: []string{"python"}, Children: []string{"c"}},
		{Name: "c", Level: LevelLow, Title: "t", Parents: []string{"app.py", "python3.11"}, Children: []string{"c"}},
	}
	set, err := compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	r := set.match(chain{started("/usr/bin/python3.11", "python3", "/srv/app.py"), started("/c"), line(""), line("")})
	if r == nil || r.Name != "a" {
		t.Errorf("rule %+v, want a", r)
	}
}

func TestNamesOfAnImage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file   string
		args   []string
		names  string
		script string
	}{
		{"/usr/bin/Python3.11", nil, "python3.11 python", ""},
		{"/usr/bin/python3.11", []string{"python3", "-u", "/opt/App.py", "x"}, "python3.11 python app.py", "/opt/App.py"},
		{"/usr/bin/python3.11", []string{"python3", "-c", "/opt/app.py"}, "python3.11 python", ""},
		{"/usr/bin/python3.11", []string{"python3", "-W", "ignore", "app.py"}, "python3.11 python app.py", "app.py"},
		{"/usr/bin/python3.11", []string{"python3", "-m", "http.server"}, "python3.11 python", ""},
		{"/usr/bin/bash", []string{"bash", "--rcfile", "x", "evil.sh"}, "bash evil.sh", "evil.sh"},
		{"/usr/bin/bash", []string{"bash", "-xec", "evil.sh"}, "bash", ""},
		{"/usr/bin/bash", []string{"bash", "-o", "errexit", "evil.sh"}, "bash evil.sh", "evil.sh"},
		{"/usr/bin/bash", []string{"bash", "-oerrexit", "evil.sh"}, "bash evil.sh", "evil.sh"},
		{"/usr/bin/bash", []string{"bash", "+"}, "bash", ""},
		{"/usr/bin/bash", []string{"bash", "--"}, "bash", ""},
		{"/usr/bin/bash", []string{"bash", "--", "-x"}, "bash -x", "-x"},
		{"/usr/bin/bash", []string{"bash", "-"}, "bash", ""},
		{"/usr/bin/bash", []string{"bash", ""}, "bash", ""},
		{"/usr/bin/perl", []string{"perl", "-e", "x"}, "perl", ""},
		{"/usr/bin/node", []string{"node", "--require", "a.js", "b.js"}, "node b.js", "b.js"},
		{"/usr/bin/node", []string{"node", "--eval", "b.js"}, "node", ""},
		{"/usr/bin/pwsh", []string{"pwsh", "-NoProfile", "-ExecutionPolicy", "Bypass", "-File", "/a/b.ps1"}, "pwsh b.ps1", "/a/b.ps1"},
		{"/usr/bin/pwsh", []string{"pwsh", "-Command", "b.ps1"}, "pwsh", ""},
		{"/bin/busybox", []string{"sh", "/x/y.sh"}, "busybox sh y.sh", "/x/y.sh"},
		{"/bin/busybox", []string{"busybox", "sh", "/x/y.sh"}, "busybox sh y.sh", "/x/y.sh"},
		{"/bin/busybox", nil, "busybox", ""},
		{"/opt/7", nil, "7", ""},
	} {
		im := started(tt.file, tt.args...)
		if got := strings.Join(im.names, " "); got != tt.names || im.script != tt.script {
			t.Errorf("%s %q: names %q script %q, want %q %q", path.Base(tt.file), tt.args, got, im.script, tt.names, tt.script)
		}
	}
}

func TestRulesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	good := Rule{Name: "r", Level: LevelLow, Title: "t", Parents: []string{"p"}, Children: []string{"c"}}
	for _, tt := range []struct {
		name   string
		change func(*Rule)
		want   string
	}{
		{"name", func(r *Rule) { r.Name = "a b" }, "name:"},
		{"no name", func(r *Rule) { r.Name = "" }, "name:"},
		{"level", func(r *Rule) { r.Level = "SEVERE" }, "level:"},
		{"title", func(r *Rule) { r.Title = "a\nb" }, "title:"},
		{"no parents", func(r *Rule) { r.Parents = nil }, "parents:"},
		{"any parent", func(r *Rule) { r.Parents = []string{"*"} }, "parents:"},
		{"no children", func(r *Rule) { r.Children = nil }, "children:"},
		{"a path", func(r *Rule) { r.Children = []string{"/bin/sh"} }, "children:"},
		{"a wildcard", func(r *Rule) { r.Children = []string{"py*"} }, "children:"},
		{"star among others", func(r *Rule) { r.Children = []string{"*", "sh"} }, "children:"},
		{"expression", func(r *Rule) { r.CommandLine = []string{"/(/"} }, "cmdline:"},
		{"empty condition", func(r *Rule) { r.ParentCommandLine = []string{""} }, "parent_cmdline:"},
		{"empty exception", func(r *Rule) { r.Except = []Exception{{}} }, "except[0]:"},
		{"bad exception", func(r *Rule) { r.Except = []Exception{{Children: []string{"a/b"}}} }, "except[0].children:"},
	} {
		r := good
		tt.change(&r)
		if _, err := New(Config{Name: "s", Rules: []Rule{r}}); err == nil || !strings.Contains(err.Error(), "rule 1: "+tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
	if _, err := New(Config{Name: "s", Rules: []Rule{good, good}}); err == nil {
		t.Error("two rules of one name were taken")
	}
	if _, err := New(Config{Name: "s", Rules: []Rule{}}); err != nil {
		t.Errorf("no rules at all: %v", err)
	}
}

func TestRulesCanBeReplaced(t *testing.T) {
	t.Parallel()
	o := observe(t, Config{Dedupe: -1})
	start := func(pid int) []document {
		o.w.run(10, 0, 5, "/usr/sbin/nginx")
		o.forked(10, pid)
		o.w.run(pid, 10, 9, "/usr/bin/frob")
		o.executed(pid, 9)
		return o.alerts()
	}
	if n := len(start(11)); n != 0 {
		t.Fatalf("%d alerts", n)
	}
	if err := o.s.SetRules([]Rule{{Name: "frob", Level: "x", Title: "t", Parents: []string{"nginx"}, Children: []string{"frob"}}}); err == nil {
		t.Fatal("a rule without a level was taken")
	}
	if err := o.s.SetRules([]Rule{{Name: "frob", Level: LevelLow, Title: "t", Parents: []string{"nginx"}, Children: []string{"frob"}}}); err != nil {
		t.Fatal(err)
	}
	if list := start(12); len(list) != 1 || list[0].Rule != "frob" {
		t.Errorf("alerts %+v", list)
	}
}

func TestRuleFileErrorsSayWhere(t *testing.T) {
	t.Parallel()
	const head = "version: 1\nrules:\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "r.yaml:1:1: the file is empty"},
		{"no version", "rules: []\n", "r.yaml:1:1: version: must be 1"},
		{"another version", "version: 2\nrules: []\n", "r.yaml:1:10: version: must be 1"},
		{"no rules", "version: 1\n", "r.yaml:1:1: rules: required"},
		{"unknown field", head + "  - {name: a, level: LOW, title: t, parents: [p], children: [c], nmee: x}\n", `r.yaml:3:66: unknown field "nmee"`},
		{"twice", head + "  - {name: a, name: b}\n", `r.yaml:3:15: key "name" is given twice, first in line 3`},
		{"bad level", head + "  - name: a\n    level: SEVERE\n    title: t\n    parents: [p]\n    children: [c]\n", "r.yaml:4:12: level:"},
		{"bad child", head + "  - name: a\n    level: low\n    title: t\n    parents: [p]\n    children: [/bin/sh]\n", "r.yaml:7:15: children:"},
		{"no list", head + "  - {name: a, level: LOW, title: t, parents: p, children: [c]}\n", "r.yaml:3:46: parents must be a list, not text"},
		{"a number", head + "  - {name: a, level: LOW, title: t, parents: [7], children: [c]}\n", "r.yaml:3:47: parents must be text: put 7 in quotes"},
		{"an anchor", head + "  - {name: a, level: LOW, title: t, parents: &x [p], children: *x}\n", "r.yaml:3:46: anchors, aliases"},
		{"an expression", head + "  - {name: a, level: LOW, title: t, parents: [p], children: [c], cmdline: [\"/(/\"]}\n", "cmdline: \"/(/\": missing closing )"},
		{"an exception", head + "  - {name: a, level: LOW, title: t, parents: [p], children: [c], except: [{}]}\n", "except[0]:"},
		{"unseen", head + "  - {name: a, level: LOW, title: t, parents: [p], children: [c], unseen: 1}\n", "unseen must be true or false, not a number"},
		{"a rule with an anchor", head + "  - &r {name: a, level: LOW, title: t, parents: [p], children: [c]}\n", "r.yaml:3:5: anchors"},
		{
			"name again", head + "  - {name: a, level: LOW, title: t, parents: [p], children: [c]}\n  - {name: a, level: LOW, title: t, parents: [p], children: [c]}\n",
			`r.yaml:4:5: name: rule "a" is already in line 3`,
		},
		{"two documents", "version: 1\nrules: []\n---\nversion: 1\n", "a second YAML document"},
		{"deep", "a: " + strings.Repeat("[", 200), "nested more than"},
		{"no text", "\xff", "not UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseRules("r.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %q in it", err, tt.want)
			}
		})
	}
}

func TestRuleFileIsReadAsWritten(t *testing.T) {
	t.Parallel()
	rules, err := ParseRules("r.yaml", []byte(`version: 1
rules:
  - name: a
    level: critical
    title: "one: two"
    parents: [p, "7"]
    children: ["*"]
    cmdline: ["x y", '/^\d+$/']
    parent_cmdline: [z]
    unseen: false
    except:
      - {parents: [p], children: [c], cmdline: [d], parent_cmdline: [e]}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := rules[0]
	if len(rules) != 1 || r.Name != "a" || r.Level != LevelCritical || r.Title != "one: two" || !slices.Equal(r.Parents, []string{"p", "7"}) ||
		!slices.Equal(r.Children, []string{"*"}) || !slices.Equal(r.CommandLine, []string{"x y", `/^\d+$/`}) || !r.IgnoreUnseen ||
		!slices.Equal(r.ParentCommandLine, []string{"z"}) || len(r.Except) != 1 || r.Except[0].ParentCommandLine[0] != "e" {
		t.Errorf("rules %+v", rules)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(DefaultRulesFile())
	f.Add([]byte("version: 1\nrules: [{name: a, level: LOW, title: t, parents: [p], children: [c], cmdline: [/x/], except: [{children: [d]}]}]\n"))
	f.Add([]byte("version: 1\nrules: [&a [*a]]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := ParseRules("f", data)
		if err != nil {
			return
		}
		set, err := compile(rules)
		if err != nil {
			t.Fatalf("rules that were read cannot be used: %v", err)
		}
		set.match(chain{started("/p"), started("/c", "c", string(data)), line(string(data)), line("p")})
	})
}
