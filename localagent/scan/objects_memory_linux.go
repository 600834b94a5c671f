package scan

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxMaps bounds the table of mappings read of one process: a process has 65530 at most by default, some 100 bytes each.
const maxMaps = 16 << 20

// objectsOfMemory offers what runs: the image and the mapped files of each process, deleted ones and those in memory included,
// and the files of the loaded kernel modules. Memory no file stands behind is not read.
func (f *finder) objectsOfMemory(ctx context.Context) error {
	if err := f.images(ctx); err != nil {
		return err
	}
	known := map[string]bool{}
	all, err := pids(f.r.s.cfg.Roots.Proc)
	if err != nil {
		return bare(err)
	}
	for _, pid := range all {
		if err := f.mapped(ctx, filepath.Join(f.r.s.cfg.Roots.Proc, strconv.Itoa(pid)), known); err != nil {
			return err
		}
	}
	return f.modules(ctx)
}

// images offers the image of each process.
func (f *finder) images(ctx context.Context) error {
	all, err := pids(f.r.s.cfg.Roots.Proc)
	if err != nil {
		return bare(err)
	}
	for _, pid := range all {
		if err := f.image(ctx, filepath.Join(f.r.s.cfg.Roots.Proc, strconv.Itoa(pid), "exe")); err != nil {
			return err
		}
	}
	return nil
}

// mapped offers the mapped files of one process; known are those met so far.
func (f *finder) mapped(ctx context.Context, dir string, known map[string]bool) error {
	table := filepath.Join(dir, "maps")
	watch := func() { f.r.busy(f.sl, table, f.r.s.cfg.PerFile) }
	watch()
	defer f.r.busy(f.sl, "", 0)
	maps, err := os.Open(table) //nolint:gosec // below the mount point of procfs
	if err != nil {
		f.unread(table, err)
		return nil
	}
	defer func() { _ = maps.Close() }()
	lines := bufio.NewScanner(io.LimitReader(maps, maxMaps))
	for ; lines.Scan(); watch() {
		link, key, path, ok := parseMapping(lines.Text())
		if !ok || known[key] {
			continue
		}
		known[key] = true
		at := filepath.Join(dir, "map_files", link)
		if _, err := os.Readlink(at); errors.Is(err, fs.ErrPermission) {
			// Without CAP_CHECKPOINT_RESTORE the path is what is left; one that leads nowhere any more is a file nobody can look at.
			if _, gone := os.Lstat(path); gone != nil {
				f.unread(path, err)
			} else if err := f.file(ctx, path); err != nil {
				return err
			}
			continue
		}
		if err := f.image(ctx, at); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		f.unread(table, err)
	}
	return nil
}

// parseMapping reads a line of /proc/<pid>/maps (proc_pid_maps(5)): "00400000-00452000 r-xp 00000000 08:02 173521
// /usr/bin/dbus-daemon". link is its name in map_files, which has no leading zeros; key tells files apart:
// device and inode do not, on btrfs and overlayfs the device is that of all subvolumes and layers.
func parseMapping(line string) (link, key, path string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[4] == "0" {
		return "", "", "", false
	}
	from, to, ok := strings.Cut(fields[0], "-")
	if !ok || strings.ContainsRune(fields[0], '/') {
		return "", "", "", false
	}
	if _, err := strconv.ParseUint(fields[4], 10, 64); err != nil {
		return "", "", "", false
	}
	_, path, _ = strings.Cut(line, " "+fields[4]+" ")
	path = strings.TrimLeft(path, " ")
	return trimZeros(from) + "-" + trimZeros(to), fields[3] + " " + fields[4] + " " + path, path, true
}

func trimZeros(hex string) string {
	if t := strings.TrimLeft(hex, "0"); t != "" {
		return t
	}
	return "0"
}

// modules offers the files of the loaded kernel modules. One that was loaded from elsewhere has no file here.
func (f *finder) modules(ctx context.Context) error {
	roots := f.r.s.cfg.Roots
	loaded, err := os.ReadFile(filepath.Join(roots.Proc, "modules"))
	if err != nil || len(loaded) == 0 {
		return nil
	}
	release, err := os.ReadFile(filepath.Join(roots.Proc, "sys/kernel/osrelease"))
	if err != nil {
		return nil
	}
	base := "/lib/modules/" + strings.TrimSpace(string(release))
	index, err := resolve(roots.Root, base+"/modules.dep")
	if err != nil {
		return nil
	}
	table, err := os.ReadFile(index) //nolint:gosec // root's own
	if err != nil {
		return nil
	}
	wanted := map[string]bool{}
	for line := range strings.Lines(string(loaded)) {
		name, _, _ := strings.Cut(line, " ")
		wanted[name] = true
	}
	for line := range strings.Lines(string(table)) {
		path, _, ok := strings.Cut(line, ":")
		if !ok || !wanted[moduleName(path)] {
			continue
		}
		if !strings.HasPrefix(path, "/") {
			path = base + "/" + path
		}
		real, err := resolve(roots.Root, path)
		if err != nil {
			continue
		}
		if err := f.file(ctx, real); err != nil {
			return err
		}
	}
	return nil
}

// moduleName is what the kernel calls the module in a file such as kernel/fs/nls/nls-utf8.ko.xz.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
