package ioc

import (
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// whyNetwork is why a drive is left out.
const whyNetwork = "a drive of another machine, which may hang"

// rootsOf returns where files are looked for.
func rootsOf(cfg Config) (places, error) {
	system, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return places{}, err
	}
	drive := filepath.VolumeName(system) + `\`
	var named []string
	switch cfg.Scope {
	case ScopeAll:
		if named, err = drives(); err != nil {
			return places{}, err
		}
	case ScopeSystem:
		named = []string{drive}
	case ScopeCritical:
		named = []string{system, drive + "Users", drive + "ProgramData", drive + "Program Files", drive + "Program Files (x86)"}
	case ScopeCustom:
		named = cfg.Roots
	}
	var p places
	for _, r := range named {
		switch {
		case cfg.excluded(r):
			p.left = append(p.left, leftOut{r, whyExcluded})
		case remoteDrive(r) && !cfg.Network:
			p.left = append(p.left, leftOut{r, whyNetwork})
		case !slices.ContainsFunc(p.roots, func(k string) bool { return k == r || files.Below(r, k) }):
			p.roots = append(p.roots, r)
		}
	}
	return p, nil
}

// drives lists the roots of all drives that have one.
func drives() ([]string, error) {
	buf := make([]uint16, 4*26+1)
	n, err := windows.GetLogicalDriveStrings(uint32(len(buf)), &buf[0])
	if err != nil {
		return nil, err
	}
	var list []string
	// Strings with a NUL behind each, such as C:\ and D:\.
	for rest := buf[:min(int(n), len(buf))]; len(rest) > 0; {
		end := slices.Index(rest, 0)
		if end <= 0 {
			break
		}
		if d := windows.UTF16ToString(rest[:end]); driveType(d) != windows.DRIVE_NO_ROOT_DIR {
			list = append(list, d)
		}
		rest = rest[end+1:]
	}
	return list, nil
}

func remoteDrive(path string) bool {
	volume := filepath.VolumeName(path)
	return strings.HasPrefix(volume, `\\`) || driveType(volume+`\`) == windows.DRIVE_REMOTE
}

func driveType(root string) uint32 {
	wide, err := windows.UTF16PtrFromString(root)
	if err != nil {
		return windows.DRIVE_UNKNOWN
	}
	return windows.GetDriveType(wide)
}
