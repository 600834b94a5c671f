package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// programNames are the names this test binary is the program under: testscript puts each into PATH.
func programNames() map[string]func() {
	names := map[string]func(){"edr-bridge": main}
	for _, task := range kumaScripts() {
		names[callout.ScriptName(task)] = mainAsCalled
		names[strings.ToUpper(string(task))] = mainAsCalled
	}
	return names
}

// mainAsCalled is main with the name the kernel was told: testscript leaves only its last part, and the path says where the calls go.
func mainAsCalled() {
	if line, err := os.ReadFile("/proc/self/cmdline"); err == nil {
		name, _, _ := bytes.Cut(line, []byte{0})
		os.Args[0] = string(name)
	}
	main()
}

// TestScriptExitsAreThoseOfTheVerbs compares the codes of a script with the table of this program: one number, one meaning.
func TestScriptExitsAreThoseOfTheVerbs(t *testing.T) {
	t.Parallel()
	known := map[int]bool{}
	for _, c := range exitCodes() {
		known[c.Code] = true
	}
	scripts := callout.ScriptExits()
	for _, c := range scripts {
		if !known[c.Code] {
			t.Errorf("exit code %d of a script is none of the program's", c.Code)
		}
	}
	want := []int{
		exitDone, exitFailed, exitUsage, exitHeld, exitRefused, exitUnknown, exitLimit, exitNotFound, exitUnreachable, exitCredentials, exitConfig,
	}
	if len(scripts) != len(want) {
		t.Fatalf("a script has %d exit codes, want %d", len(scripts), len(want))
	}
	for i, c := range scripts {
		if c.Code != want[i] {
			t.Errorf("row %d has code %d, want %d", i, c.Code, want[i])
		}
	}
}

func TestOtherNamesAreNoScripts(t *testing.T) {
	t.Parallel()
	var out, words bytes.Buffer
	if exit, ok := callOut([]string{"/usr/bin/edr-bridge", "isolateHost.py"}, stdio{out: &out, err: &words}); ok || out.Len()+words.Len() > 0 {
		t.Errorf("got exit %d, %v, %s%s", exit, ok, &out, &words)
	}
}
