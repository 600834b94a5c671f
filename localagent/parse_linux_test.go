package localagent

import (
	"strconv"
	"strings"
	"testing"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseStatReadsBehindTheLastParenthesis(t *testing.T) {
	t.Parallel()
	const tail = " 4 4 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2 3"
	for name, c := range map[string]struct {
		in   string
		want procStat
		bad  bool
	}{
		"plain":                 {in: "9 (sh) S 3" + tail, want: procStat{'S', 3, 4194304, 777}},
		"name with fields":      {in: "9 (x) R 1 1 1) S 3" + tail, want: procStat{'S', 3, 4194304, 777}},
		"name with line feed":   {in: "9 (a\nb) S 3" + tail, want: procStat{'S', 3, 4194304, 777}},
		"cut off":               {in: "9 (sh) S 3 4 4", bad: true},
		"no name":               {in: "9 sh S 3" + tail, bad: true},
		"start is not a number": {in: "9 (sh) S 3" + strings.Replace(tail, "777", "x", 1), bad: true},
		"empty":                 {bad: true},
	} {
		got, err := parseStat([]byte(c.in))
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %+v, %v, want %+v, error %v", name, got, err, c.want, c.bad)
		}
	}
}

func TestScriptsAreFoundOnCommandLines(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"python3.11 /opt/evil.py":            "/opt/evil.py",
		"python3 -u -W ignore -X dev e.py x": "e.py",
		"python3 -Ic print":                  "",
		"python3 -m http.server":             "",
		"python3":                            "",
		"bash -e -x ./a.sh -c b":             "./a.sh",
		"bash -o pipefail a.sh":              "a.sh",
		"bash --rcfile x -i":                 "",
		"sh -c a.sh":                         "",
		"sh -ec a.sh":                        "",
		"sh -s a.sh":                         "",
		"sh -- -odd.sh":                      "-odd.sh",
		"sh -":                               "",
		"sh - a.sh":                          "a.sh",
		"bash - a.sh":                        "a.sh",
		"python3 - a.py":                     "",
		"ld-linux-x86-64.so.2 ./evil":        "./evil",
		"ld-linux-aarch64.so.1 --library-path /x ./evil a": "./evil",
		"ld-musl-x86_64.so.1 --preload /x -- ./evil":       "./evil",
		"perl -w -I lib a.pl":                              "a.pl",
		"perl -Ilib a.pl":                                  "a.pl",
		"perl -ne code a.pl":                               "",
		"node --require x a.js":                            "a.js",
		"node -e code":                                     "",
		"php -d a=b -f a.php":                              "a.php",
		"php a.php":                                        "a.php",
		"busybox sh a.sh":                                  "a.sh",
		"ruby a.rb -e":                                     "a.rb",
		"pwsh -NoProfile -File a.ps1":                      "a.ps1",
		"pwsh -Command x":                                  "",
		"pwsh -ExecutionPolicy Bypass -File a.ps1":         "a.ps1",
		"perl -Mfeature=say /x.pl":                         "/x.pl",
		"perl -MFile::Temp -mConfig /x.pl":                 "/x.pl",
		"perl -d:Trace /x.pl":                              "/x.pl",
		"perl -i.e -CSDE /x.pl":                            "/x.pl",
		"perl -lne code /x":                                "",
		"perl5.36-x86_64-linux-gnu /x.pl":                  "/x.pl",
		"python3.13t /x.py":                                "/x.py",
		"ruby -W:no-deprecated /x.rb":                      "/x.rb",
		"ruby -C /tmp -E utf-8 /x.rb":                      "/x.rb",
		"fish -C echo /x.fish":                             "/x.fish",
		"fish -c echo":                                     "",
		"node --title foo /x.js":                           "/x.js",
		"zsh --emulate sh /x.sh":                           "/x.sh",
		"mksh /x.sh":                                       "/x.sh",
		"ksh93 -x /x.sh":                                   "/x.sh",
		"csh -f /x.csh":                                    "/x.csh",
		"tcsh -b /x.csh -c":                                "/x.csh",
		"tcsh -c /x.csh":                                   "",
		"awk -F : -f /x.awk /etc/passwd":                   "/x.awk",
		"gawk -v a=b --file=/x.awk":                        "/x.awk",
		"mawk -f/x.awk":                                    "/x.awk",
		"awk BEGIN{} /etc/passwd":                          "",
		"gawk -- BEGIN{} /etc/passwd":                      "",
		"busybox awk -f /x.awk":                            "/x.awk",
		"":                                                 "",
	} {
		args := strings.Split(line, " ")
		in, ok := interpreterOf("/usr/bin/" + args[0])
		if !ok && line != "" {
			t.Errorf("%s is not taken for an interpreter", args[0])
		}
		if got := in.script([]byte(strings.Join(args, "\x00") + "\x00")); got != want {
			t.Errorf("script of %q = %q, want %q", line, got, want)
		}
	}
	for _, image := range []string{"/usr/sbin/sshd", "/usr/bin/pythonista", "/tmp/sh.exe", "/usr/bin/nodeagent"} {
		if _, ok := interpreterOf(image); ok {
			t.Errorf("%s is taken for an interpreter", image)
		}
	}
}

func TestBelowGivesThePathInsideAnotherRoot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ root, path, want string }{
		{"/", "/opt/x", ""}, {"/srv/jail", "/srv/jail/opt/x", "/opt/x"}, {"/srv/jail", "/srv/jailer/x", ""}, {"/srv/jail", "/opt/x", ""},
	} {
		got, ok := below(c.root, c.path)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("below(%s, %s) = %q, %v, want %q", c.root, c.path, got, ok, c.want)
		}
	}
}

func FuzzParseStatNeverPanics(f *testing.F) {
	f.Add([]byte("9 (x) R 1 1 1) S 3 4 4 4 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := parseStat(b); err != nil && st != (procStat{}) {
			t.Errorf("error %v with %+v", err, st)
		}
		in, _ := interpreterOf("/bin/sh")
		if s := in.script(b); s != "" && !strings.Contains(string(b), s) {
			t.Errorf("script %q is not in %q", s, b)
		}
	})
}
