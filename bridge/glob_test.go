package bridge

import (
	"strings"
	"testing"
	"time"
)

func TestGlobStarsAndQuestionMarks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"dc*", "dc01", true},
		{"dc*", "dc", true},
		{"dc*", "adc", false},
		{"*dc", "adc", true},
		{"dc?", "dc1", true},
		{"dc?", "dc", false},
		{"*", "", true},
		{"?", "", false},
		{"", "", true},
		{"", "a", false},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "axxbyy", false},
		{"*a*b", "aab", true},
		{"??", "жж", true},
		{"*.exe", "a.exe.exe", true},
		{"a", "b", false},
	} {
		if got := globMatch(c.pattern, c.name); got != c.want {
			t.Errorf("globMatch(%q, %q) = %t", c.pattern, c.name, got)
		}
	}
}

func TestPathGlobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/etc/**", "/etc", true},
		{"/etc/**", "/etc/ssh/sshd_config", true},
		{"/etc/**", "/etcetera", false},
		{"/etc/*", "/etc/a", true},
		{"/etc/*", "/etc/a/b", false},
		{"/etc/*", "/etc", false},
		{"/a/**/z", "/a/z", true},
		{"/a/**/z", "/a/b/c/z", true},
		{"/a/**/z", "/a/b/c", false},
		{"/etc/passwd", "/etc/passwd", true},
		{"/etc/passwd", "/ETC/passwd", false},
		{"/etc//passwd", "/etc/./passwd", true},
		{"**/*.key", "/srv/a.key", true},
		{"**/*.key", `C:\a.KEY`, true},
		{"**/*.key", "/a.keys", false},
		{`**\*.key`, "/a.kez", false},
		{`C:\Windows\**`, `c:/windows/x`, true},
		{`C:\Windows\**`, `D:\Windows\x`, false},
		{`?:\Windows\**`, `D:\WINDOWS`, true},
		{`*:\Windows\**`, `D:\Windows\x`, true},
		{`C:/Windows/*.exe`, `C:\Windows\a.exe`, true},
		{`C:\Windows\*.exe`, `C:\Windows\s\a.exe`, false},
		{`?:\`, `C:\`, true},
		{`?:\`, `C:\a`, false},
		{"/", "/", true},
		{"/", "/a", false},
		// What a Windows host makes of a path without a drive.
		{`C:\Windows\**`, "/Windows/x", true},
		{`C:\Windows\*.exe`, "/windows/a.exe. .", true},
		{`C:\Windows\*.exe`, "/windows/a.exe::$DATA", true},
		{"/Windows/**", `C:\Windows\x`, false},
		{`C:\Program Files\**`, `C:\PROGRA~1\x`, true},
		{`C:\Program Files\a\**`, `C:\PROGRA~1\b\x`, false},
		{"/srv/backups/**", "/srv/BACKUP~1/x", false},
	} {
		glob, err := parsePathGlob(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		got := false
		for _, r := range readings(c.path) {
			got = got || glob.match(r)
		}
		if got != c.want {
			t.Errorf("%s matches %s = %t", c.pattern, c.path, got)
		}
	}
}

func TestGlobsTakePolynomialTime(t *testing.T) {
	t.Parallel()
	// Trying every way would take longer than the test may run.
	start := time.Now()
	globMatch(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 255))
	glob, err := parsePathGlob("/" + strings.Repeat("**/a/", 100) + "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readings(strings.Repeat("/a", 2_000)) {
		if glob.match(r) {
			t.Error("matches")
		}
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestShortNamesStandForTheLongNamesWindowsMakesThemFrom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		long, short string
		want        bool
	}{
		{"program files", "progra~1", true},
		{"program files*", "progra~2", true},
		{"kaspersky lab", "kasper~1", true},
		{"windows", "window~1", true},
		{"windows", "wi4a3f~1", true},
		{"windows", "progra~1", false},
		{"windows", "xi4a3f~1", false},
		{"system32", "system~1", true},
		{"backup-agent", "backup~1", true},
		{"backup-agent", "backup~1.exe", false},
		{"*.key", "a~1.key", true},
		{"*.key", "a~1", false},
		{"a*", "a~1.key", true},
		{"a.*", "a~1.key", true},
		{"page.html", "page~1.htm", true},
		{"bootmgr*", "bootmg~1", true},
		{"a b.c.d", "abc~1.d", true},
		{"a+b=c;d.x", "a_b_c_~1.x", true},
		{"all users", "alluse~1", true},
		{"ab", "abcdef~1", true},
		{"abx", "abcdef~1", true},
		{"abx", "abcdeg~1", false},
		{"счета", "aaaaaa~1", true},
	} {
		if got := mayShorten(c.long, c.short); got != c.want {
			t.Errorf("%s may stand for %s = %t", c.short, c.long, got)
		}
	}
	for name, want := range map[string]bool{
		"progra~1": true, "a~1.exe": true, "ab1234~12.ex": false, "a1~12345": true, "backup~2024.txt": false, "~1": false, "a~": false, "a~x": false,
		"a~1.html": false, "progra~1x": false, "program": false,
	} {
		if isShortName(name) != want {
			t.Errorf("isShortName(%q) = %t", name, !want)
		}
	}
}
