package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// trustHint is how an administrator makes files his own.
const trustHint = `move away what is not yours, then: icacls PATH /setowner *S-1-5-32-544 /T and take the right away (icacls PATH /remove:g ACCOUNT)`

// checkTrusted refuses files that somebody else than SYSTEM, the administrators and this user could change: whoever writes the settings, or
// the program itself, of an elevated process has its rights. It says nothing to a process that is not elevated.
func (a *app) checkTrusted(paths ...string) error {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return nil
	}
	var errs []error
	for _, path := range paths {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err == nil {
			check := files.CheckTrusted
			if strings.EqualFold(filepath.Ext(path), ".exe") {
				check = files.CheckTrustedProgram
			}
			err = check(path)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fail(exitConfig, "config.untrusted", err, trustHint)
	}
	return nil
}

// closeState lets nobody but SYSTEM and the administrators into the folders of journal and agent, and refuses what somebody else has put
// there before: folders of Windows are open to what they inherit. Whoever is elevated calls it before anything in them is read.
func (a *app) closeState(set *configs.Settings) error {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return nil
	}
	var errs []error
	for _, dir := range []string{set.Local.State, set.Local.AgentState} {
		dir, err := filepath.Abs(dir)
		if err == nil {
			err = files.MakePrivate(dir)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("the state: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fail(exitConfig, "state.open", err, trustHint)
	}
	return a.checkTrusted(set.File())
}
