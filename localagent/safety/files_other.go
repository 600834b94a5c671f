//go:build !linux && !windows

package safety

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// errNoFiles says where files can be judged.
var errNoFiles = fmt.Errorf("files are judged on Linux and Windows only: send the order through KSC: %w", errors.ErrUnsupported)

type (
	filesState       struct{}
	executablePlaces struct{}
)

// Check answers an error that wraps errors.ErrUnsupported: nothing may be done.
func (*Files) Check(context.Context, *os.File, string) (bridge.Reason, string, error) {
	return bridge.ReasonNone, "", errNoFiles
}

// Scope answers an error that wraps errors.ErrUnsupported.
func (*Files) Scope(context.Context) (string, error) { return "", errNoFiles }

// Executables answers an error that wraps errors.ErrUnsupported: nothing may be denied.
func (*Files) Executables(context.Context) (*Executables, error) { return nil, errNoFiles }

// ByPath answers that nothing at the path may be forbidden, because nobody can tell.
func (*Executables) ByPath(string) (bridge.Reason, string) {
	return bridge.ReasonProtectedPath, errNoFiles.Error()
}

// ByID answers that no file may be forbidden, because nobody can tell.
func (*Executables) ByID(files.ID) (bridge.Reason, string) {
	return bridge.ReasonProtectedPath, errNoFiles.Error()
}
