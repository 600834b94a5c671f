package safety

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// executablePlaces finds executables by identity and by name.
type executablePlaces struct{ index *index }

// Executables returns the programs that must never be denied execution. The first call reads and hashes them, which takes
// some tenths of a second; later ones cost a look at each file once a minute. An error means that nothing may be denied.
func (f *Files) Executables(ctx context.Context) (*Executables, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.last
	of, err := f.indexLocked(ctx)
	if err != nil {
		return nil, err
	}
	if f.execs != nil && known == of {
		return f.execs, nil
	}
	x, err := f.readExecutables(ctx, of)
	if err != nil {
		return nil, fmt.Errorf("programs that must always run: %w", err)
	}
	f.execs = x
	return x, nil
}

// ByID returns ReasonNone when a rule may forbid the file of this identity, else the reason and the entry in words.
func (x *Executables) ByID(id files.ID) (bridge.Reason, string) {
	if h, ok := x.index.identified(id); ok {
		return bridge.ReasonProtectedPath, h.why()
	}
	return bridge.ReasonNone, ""
}

// ByPath returns ReasonNone when a rule may forbid whatever is at the absolute path, which need not exist, else the reason
// and the entry in words. A link is judged as what it leads to, too.
func (x *Executables) ByPath(path string) (bridge.Reason, string) {
	names := []string{filepath.Clean(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		names = append(names, real)
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		names = append(names, filepath.Join(dir, filepath.Base(path)))
	}
	for _, name := range names {
		if h, ok := x.index.named(name); ok {
			return bridge.ReasonProtectedPath, h.why()
		}
	}
	if id, err := files.IDOf(path); err == nil {
		return x.ByID(id)
	}
	return bridge.ReasonNone, ""
}

func (f *Files) readExecutables(ctx context.Context, of *fileIndex) (*Executables, error) {
	entries := Of(KindExecution)
	x := &Executables{byDigest: newDigests(), executablePlaces: executablePlaces{newIndex(entries)}}
	for i := range entries {
		switch e := &entries[i]; e.Name {
		case OwnProgram:
			self, err := os.Readlink("/proc/self/exe")
			if err != nil {
				return nil, err
			}
			x.index.add(hit{entry: e, name: strings.TrimSuffix(self, " (deleted)")})
			if err := f.digest(ctx, x, hit{entry: e, name: "/proc/self/exe"}); err != nil {
				return nil, err
			}
		case SystemPackage:
			for name, owner := range of.owners {
				if h := (hit{e, name, "package " + owner}); program(name) {
					if _, ok := x.index.byName[name]; !ok {
						x.index.byName[name] = h
					}
					x.index.identify(h)
				}
			}
			if of.packaged < 0 {
				for _, folder := range programFolders() {
					x.index.trees = append(x.index.trees, hit{e, folder, "the package it is from is not known"})
				}
			}
		}
	}
	return x, f.digestAll(ctx, x)
}

// digestAll hashes every file that is protected by identity, and the programs in protected trees.
func (f *Files) digestAll(ctx context.Context, x *Executables) error {
	for _, h := range x.index.byID {
		if err := f.digest(ctx, x, h); err != nil {
			return err
		}
	}
	for _, t := range x.index.trees {
		if slices.Contains(programFolders(), t.name) {
			continue // without a package database these count by name; hashing all of them would take minutes
		}
		seen := 0
		err := filepath.WalkDir(t.name, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if seen++; seen > maxTreeFiles {
				return fmt.Errorf("%w in %s", errTooMany, t.name)
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if info, err := d.Info(); err != nil || info.Mode()&0o111 == 0 && !program(name) {
				return nil //nolint:nilerr // the file has just gone
			}
			h := hit{t.entry, name, ""}
			x.index.identify(h)
			return f.digest(ctx, x, h)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// digest adds the digests of one file. A file that is gone by now protects nothing.
func (f *Files) digest(ctx context.Context, x *Executables, h hit) error {
	fd, err := unix.Open(h.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	file := os.NewFile(uintptr(fd), h.name)
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	d, err := f.digests.Of(ctx, file, true, true)
	if errors.Is(err, files.ErrChanged) {
		return nil // being replaced at this moment; the next look sees the file that stays
	}
	if err != nil {
		return fmt.Errorf("digest of %s: %w", h.name, err)
	}
	for _, sum := range []string{d.MD5, d.SHA256} {
		if _, ok := x.byDigest[sum]; !ok {
			x.byDigest[sum] = h.why()
		}
	}
	return nil
}

// program reports whether a packaged file is a program or a library by its place and name.
func program(name string) bool {
	for _, folder := range programFolders() {
		if !strings.HasPrefix(name, folder) {
			continue
		}
		dir := filepath.Base(strings.TrimSuffix(folder, "/"))
		return strings.HasSuffix(dir, "bin") || dir == "libexec" || strings.Contains(filepath.Base(name), ".so") || !strings.Contains(filepath.Base(name), ".")
	}
	return false
}
