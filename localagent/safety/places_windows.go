package safety

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/windows"
)

// place is one path of an entry with its folder filled in, in lower case; drive is true when it holds on every drive.
type place struct {
	entry *Entry
	path  string
	drive bool
}

// placesOf fills in the folders of this machine (KNOWNFOLDERID, GetSystemDirectory). An error means that nothing can be judged.
func placesOf(entries []Entry) ([]place, error) {
	folders := make(map[string]string)
	for token, ask := range map[string]func() (string, error){
		FolderSystem:     windows.GetSystemDirectory,
		FolderWindows:    windows.GetSystemWindowsDirectory,
		FolderPrograms:   func() (string, error) { return windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0) },
		FolderPrograms32: func() (string, error) { return windows.KnownFolderPath(windows.FOLDERID_ProgramFilesX86, 0) },
		FolderData:       func() (string, error) { return windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0) },
	} {
		folder, err := ask()
		if err != nil {
			return nil, fmt.Errorf("where %s is: %w", token, err)
		}
		folders[token] = strings.TrimRight(folder, `\`) + `\`
	}
	var all []place
	for i := range entries {
		for _, p := range entries[i].Paths {
			full := place{entry: &entries[i]}
			for token, folder := range folders {
				if rest, ok := strings.CutPrefix(p, token); ok {
					full.path = strings.ToLower(folder + rest)
				}
			}
			if rest, ok := strings.CutPrefix(p, FolderDrive); ok {
				full.path, full.drive = strings.ToLower(`\`+rest), true
			}
			if full.path != "" {
				all = append(all, full)
			}
		}
	}
	return all, nil
}

// covers reports whether the path, with its drive letter, is meant by the place.
func (p *place) covers(name string) bool {
	name = strings.ToLower(name)
	if p.drive {
		if len(name) < 2 || name[1] != ':' {
			return false
		}
		name = name[2:]
	}
	if tree(p.path) {
		return strings.HasPrefix(name, p.path)
	}
	// path.Match takes \ for an escape, hence the other separator.
	ok, err := path.Match(strings.ReplaceAll(p.path, `\`, "/"), strings.ReplaceAll(name, `\`, "/"))
	return err == nil && ok
}

// Covers returns the first entry of the kind that means the path on this machine; ok is false when none does. path is absolute,
// with a drive letter. An error means that it cannot be told.
func Covers(kind Kind, path string) (e Entry, ok bool, err error) {
	places, err := placesOf(Of(kind))
	if err != nil {
		return Entry{}, false, err
	}
	for i := range places {
		if places[i].covers(path) {
			return *places[i].entry, true, nil
		}
	}
	return Entry{}, false, nil
}
