package safety

import (
	"slices"
	"strings"
	"testing"
)

const status = `Package: base
Essential: yes
Status: install ok installed
Architecture: amd64
Depends: libneeded (>= 2), virtual | missing
Description: x
 Package: forged
 Essential: yes

Package: libneeded
Status: install ok installed
Architecture: amd64
Pre-Depends: deeper:any

Package: deeper
Status: install ok half-configured

Package: provider
Status: install ok installed
Provides: virtual (= 1), other

Package: required
Status: install ok installed
Priority: required

Package: removed
Essential: yes
Status: deinstall ok config-files

Package: optional
Status: install ok installed
Priority: optional
Depends: base

Package: wanted-by-name
Status: hold ok installed
`

func TestNeededPackagesAreTheVitalOnesAndWhatTheyNeed(t *testing.T) {
	t.Parallel()
	all, err := parseStatus(strings.NewReader(status))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[bool][]string)
	for _, named := range []bool{false, true} {
		var patterns []string
		if named {
			patterns = []string{"wanted-*"}
		}
		for _, p := range neededPackages(all, patterns) {
			names[named] = append(names[named], p.name)
		}
	}
	want := []string{"base", "libneeded", "deeper", "provider", "required"}
	if !slices.Equal(names[false], want) {
		t.Errorf("needed = %v, want %v", names[false], want)
	}
	if want := append(want, "wanted-by-name"); !slices.Equal(names[true], want) {
		t.Errorf("needed with a pattern = %v, want %v", names[true], want)
	}
}

func TestALineWithoutEndIsAnErrorAndNotTheEndOfTheList(t *testing.T) {
	t.Parallel()
	if _, err := parseStatus(strings.NewReader("Package: a\nEssential: " + strings.Repeat("x", maxStatusLine+1))); err == nil {
		t.Error("no error")
	}
}

func TestTextForPeopleIsOfNoUse(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"/.": false, "/usr/bin/ls": true, "/etc/pam.d/login": true, "/usr/share/doc/x": false, "/usr/share/man/man1/ls.1.gz": false,
		"/usr/share/perl5/Debconf.pm": true, "relative": false, "": false,
	} {
		if got := ofUse(name); got != want {
			t.Errorf("ofUse(%q) = %v, want %v", name, got, want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add(status)
	f.Add("Package: a\nDepends: |,:any(\n\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseStatus(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range all {
			if p.name == "" || strings.ContainsAny(p.name, "\n") {
				t.Errorf("package %q", p.name)
			}
		}
		if n := len(neededPackages(all, []string{"["})); n > len(all) {
			t.Errorf("%d of %d packages are needed", n, len(all))
		}
	})
}
