package prevention

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows/registry"
)

// Image File Execution Options go by the name of the program; with UseFilter, a subkey is about the one path in its FilterFullPath
// only, and other programs of the same name start as before (learn.microsoft.com/archive/blogs/mithuns/image-file-execution-options-ifeo
// describes Debugger and what CreateProcess does when it is not there).

const (
	imageOptions = `SOFTWARE\Microsoft\Windows NT\CurrentVersion\Image File Execution Options`
	// ownPrefix begins the names of our subkeys; the id of the rule follows.
	ownPrefix = "edr-bridge-"
	// ownFilter marks that UseFilter is ours to take away.
	ownFilter     = "EDRBridgeUseFilter"
	valueFilter   = "UseFilter"
	valuePath     = "FilterFullPath"
	valueDebug    = "Debugger"
	absentProgram = "edr-bridge-denied.exe"
)

// absentDebugger is where no program is: below the system folder, where only administrators could put one.
func absentDebugger() (string, error) {
	dir, err := systemFolder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, absentProgram)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s exists, and would be started instead of what is denied: remove it: %w", path, errors.Join(err))
	}
	return path, nil
}

func imageKey(path string) string { return imageOptions + `\` + strings.ToLower(filepath.Base(path)) }

func addDebugger(e entry) error {
	absent, err := absentDebugger()
	if err != nil {
		return err
	}
	name := imageKey(e.path)
	img, err := makeKey(name)
	if err != nil {
		return err
	}
	defer func() { _ = img.Close() }()
	if foreign, _, err := img.GetStringValue(valueDebug); err == nil {
		return fmt.Errorf("another product has set a debugger (%q) for programs of the name %s: it is not touched", foreign, filepath.Base(e.path))
	}
	sub, err := makeKey(name + `\` + ownPrefix + e.rule)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	err = errors.Join(sub.SetStringValue(valuePath, e.path), sub.SetStringValue(valueDebug, absent))
	if on, _, verr := img.GetIntegerValue(valueFilter); err == nil && (verr != nil || on == 0) {
		err = errors.Join(img.SetDWordValue(ownFilter, 1), img.SetDWordValue(valueFilter, 1))
	}
	if err != nil {
		return fmt.Errorf("write HKLM\\%s: %w", name, err)
	}
	return nil
}

// removeDebugger takes the subkey away, and what only it needed.
func removeDebugger(e entry) error {
	name := imageKey(e.path)
	if err := deleteKey(name + `\` + ownPrefix + e.rule); err != nil {
		return err
	}
	left, err := subkeys(name)
	if err != nil || len(left) > 0 {
		return err
	}
	img, ok, err := machineKey(name, registry.ALL_ACCESS)
	if err != nil || !ok {
		return err
	}
	if _, _, err := img.GetIntegerValue(ownFilter); err == nil {
		if err := errors.Join(gone(img.DeleteValue(valueFilter)), gone(img.DeleteValue(ownFilter))); err != nil {
			_ = img.Close()
			return fmt.Errorf("write HKLM\\%s: %w", name, err)
		}
	}
	_ = img.Close()
	if none, err := empty(name); err != nil || !none {
		return err
	}
	return deleteKey(name)
}

// gone makes nothing of an error that says there was nothing to delete.
func gone(err error) error {
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	return err
}

// debuggers finds our subkeys. One that would not hold is left out, so that it is written anew.
func debuggers() ([]entry, error) {
	names, err := subkeys(imageOptions)
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, name := range names {
		subs, err := subkeys(imageOptions + `\` + name)
		if err != nil {
			return nil, err
		}
		for _, sub := range subs {
			rule, ours := strings.CutPrefix(sub, ownPrefix)
			if !ours {
				continue
			}
			e, err := debugger(name, sub, rule)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// debugger reads one of our subkeys. A path that does not belong where it stands, or values that do not hold, make an entry that equals
// none that is wanted.
func debugger(name, sub, rule string) (entry, error) {
	e := entry{kind: byDebugger, rule: rule}
	k, ok, err := machineKey(imageOptions+`\`+name+`\`+sub, registry.QUERY_VALUE)
	if err != nil || !ok {
		return e, err
	}
	defer func() { _ = k.Close() }()
	path, _, perr := k.GetStringValue(valuePath)
	debug, _, derr := k.GetStringValue(valueDebug)
	e.path = path
	// Where the subkey stands is where it has to be removed, whatever it says.
	if !strings.EqualFold(filepath.Base(path), name) {
		e.path, e.size = name, -1
		return e, nil
	}
	img, ok, err := machineKey(imageOptions+`\`+name, registry.QUERY_VALUE)
	if err != nil || !ok {
		return e, err
	}
	defer func() { _ = img.Close() }()
	on, _, ferr := img.GetIntegerValue(valueFilter)
	dir, err := systemFolder()
	if err != nil {
		return e, err
	}
	if perr != nil || derr != nil || ferr != nil || on == 0 || !strings.EqualFold(debug, filepath.Join(dir, absentProgram)) {
		e.size = -1
	}
	return e, nil
}
