package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// fileVerdict sorts an error met before anything happened to the file.
func fileVerdict(ctx context.Context, path string, err error) error {
	name := verdict.Shown(path)
	var stray *files.StrayError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stray) && !stray.Back:
		// What the error says already is a sentence of its own, and its place came from outside.
		return verdict.Undecided("%s was swapped while it was taken; what stood at the name could not be put back and is kept as %s: %w",
			name, verdict.Shown(stray.At), cause(stray.Err))
	case context.Cause(ctx) != nil:
		return verdict.Untouched("%s is as it was: %w", name, context.Cause(ctx))
	case errors.Is(err, files.ErrSwapped):
		return verdict.Untouched("%s was swapped for another file while it was looked at: nothing was touched", name)
	case errors.Is(err, files.ErrLink):
		return verdict.Refuse(bridge.ReasonInvalid, "%s leads through a link, which could lead anywhere: name the file itself", name)
	case errors.Is(err, files.ErrPseudo):
		return verdict.Refuse(bridge.ReasonProtectedPath, "%s belongs to the kernel: it is no file on a disk", name)
	case errors.Is(err, files.ErrNotRegular):
		return verdict.Refuse(bridge.ReasonInvalid, "%s is not a regular file: folders, FIFOs, sockets and devices are left alone", name)
	case errors.Is(err, files.ErrNoStage):
		return verdict.Hopeless("%s is as it was: %w", name, err)
	case errors.Is(err, fs.ErrNotExist):
		return verdict.Hopeless("there is no file %s", name)
	case errors.Is(err, files.ErrReadOnly):
		return verdict.Hopeless("%s: %w", name, files.ErrReadOnly)
	case errors.Is(err, files.ErrBusy):
		return verdict.Untouched("%s: %w", name, cause(err))
	case full(err):
		return verdict.Untouched("%s is as it was: the disk of the quarantine is full: %w", name, cause(err))
	default:
		return verdict.Hopeless("%s is as it was: %w", name, cause(err))
	}
}

// cause takes the path out of an error of the system, which is shown already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}
