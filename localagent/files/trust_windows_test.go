package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// everybodyMay gives everybody all rights to the file or folder.
func everybodyMay(t *testing.T, path string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAnAccessListIsJudgedByWhoIsNoneOfOurs(t *testing.T) {
	t.Parallel()
	const rights = addFile | addFolder | takeOver
	for name, c := range map[string]struct {
		sddl    string
		foreign bool
	}{
		"system and administrators":         {"O:BAD:(A;;FA;;;SY)(A;;FA;;;BA)", false},
		"the installer of Windows":          {"O:" + trustedInstaller + "D:(A;;FA;;;" + trustedInstaller + ")(A;;FRFX;;;BU)", false},
		"users may read":                    {"O:SYD:(A;;FRFX;;;BU)", false},
		"users may write":                   {"O:SYD:(A;;0x1301bf;;;BU)", true},
		"whoever sits at the machine":       {"O:SYD:(A;;FW;;;IU)", true},
		"batch jobs may delete":             {"O:SYD:(A;;SD;;;S-1-5-3)", true},
		"a user by his own entry":           {"O:SYD:(A;;FA;;;S-1-5-21-1-2-3-1001)", true},
		"a group of a domain":               {"O:SYD:(A;;WD;;;S-1-5-21-1-2-3-513)", true},
		"an entry for what is made in it":   {"O:SYD:(A;OICIIO;FA;;;BU)", false},
		"an entry that denies":              {"O:SYD:(D;;FA;;;BU)", false},
		"the owner, who is judged himself":  {"O:SYD:(A;;FA;;;OW)", false},
		"a user owns it and may do nothing": {"O:S-1-5-21-1-2-3-1001D:(A;;FA;;;SY)", true},
		"no list at all":                    {"O:SY", true},
	} {
		sd, err := windows.SecurityDescriptorFromString(c.sddl)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := judge("x", sd, rights, true); errors.Is(err, ErrOthers) != c.foreign || err != nil && !c.foreign {
			t.Errorf("%s: %v, want foreign %v", name, err, c.foreign)
		}
	}
}

func TestWhatEverybodyMayReplaceIsNotTrusted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.exe")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, check := range []func(string) error{CheckTrusted, CheckTrustedProgram} {
		if err := check(path); err != nil {
			t.Errorf("an own file: %v", err)
		}
		if err := check(filepath.Join(dir, "missing")); err != nil {
			t.Errorf("a missing file: %v", err)
		}
	}
	everybodyMay(t, dir)
	if err := CheckTrusted(path); !errors.Is(err, ErrOthers) || !strings.Contains(err.Error(), dir) {
		t.Errorf("in a folder everybody may change: %v", err)
	}
}

func TestAFolderIsMadePrivateAndWhatOthersPutThereIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	for range 2 {
		if err := MakePrivate(dir); err != nil {
			t.Fatal(err)
		}
	}
	everybodyMay(t, dir)
	if err := MakePrivate(dir); err != nil {
		t.Fatal(err)
	}
	sd, err := securityOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	rights := anyRight
	if underWine() {
		rights = addFile | addFolder | takeOver // it keeps lists as modes, and reads the group's back as everybody's
	}
	if who, err := foreignRight(sd, rights, true); err != nil || who != "" {
		t.Errorf("%s may still enter, %v", who, err)
	}
	planted := filepath.Join(dir, "quarantine.key")
	if err := os.WriteFile(planted, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakePrivate(dir); err != nil {
		t.Errorf("with a file of ours: %v", err)
	}
	everybodyMay(t, planted)
	// The folder is closed already: what lies there is looked at all the same.
	if err := MakePrivate(dir); !errors.Is(err, ErrOthers) || !strings.Contains(err.Error(), planted) {
		t.Errorf("with a file everybody may write to: %v", err)
	}
}

func TestAHeldFileIsNotWrittenToOrReplaced(t *testing.T) {
	t.Parallel()
	path := wineFile(t, "x.exe", "x")
	f, err := OpenHeld(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if w, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		_ = w.Close()
		t.Error("it was opened for writing")
	}
	if err := os.Rename(path, path+".old"); err == nil {
		t.Error("it was renamed")
	}
	if r, err := os.Open(path); err != nil {
		t.Errorf("nobody may read it: %v", err)
	} else {
		_ = r.Close()
	}
}
