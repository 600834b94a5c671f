package safety

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// indexMaxAge is how long identities are believed without a new look. Names are compared as well, so that a file an update
// has just put in place counts.
const indexMaxAge = time.Minute

// filesState is what Files keeps on Linux.
type filesState struct {
	// mu guards the fields below; it is held while the disk is read, so that it is read once.
	mu    sync.Mutex
	last  *fileIndex
	execs *Executables
	// digests remembers the digests of programs.
	digests files.Cache
}

// fileIndex is the file part of the table as it was found on disk once.
type fileIndex struct {
	*index
	at time.Time
	// packaged is how many files were found to belong to packages the system needs; -1 = nobody knows.
	packaged int
	// owners are the files of needed packages.
	owners map[string]string
}

// Check returns ReasonNone when the open file may be taken, moved or deleted, else the reason and the entry of the table in
// words. path is the name the caller opened it by. The file is judged by what it is (folder, device, identity, hard links
// included) and by all names it has through the mounts of this machine. An error means that it cannot be told: then
// nothing may be done. file may be opened with O_PATH.
//
// It blocks for about 0.2 ms, once a minute for some 70 ms to read the packages of the system, and longer for a file with
// several names (some µs for each file in the protected trees on its file system).
func (f *Files) Check(ctx context.Context, file *os.File, path string) (bridge.Reason, string, error) {
	var st unix.Stat_t
	if err := fstat(file, &st); err != nil {
		return bridge.ReasonNone, "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return refused(hit{entry: entry(Folder)})
	default:
		return refused(hit{entry: entry(Device)})
	}
	if kernels, err := ofKernel(file); err != nil || kernels {
		if err != nil {
			return bridge.ReasonNone, "", err
		}
		return refused(hit{entry: entry(KernelFiles)})
	}
	x, err := f.index(ctx)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	id := files.ID{Dev: st.Dev, Ino: st.Ino}
	if h, ok := x.identified(id); ok {
		return refused(h)
	}
	names, mounted, err := namesOf(file, path)
	if err != nil {
		return bridge.ReasonNone, "", err
	}
	if mounted {
		return refused(hit{entry: entry(MountPoint)})
	}
	for _, name := range names {
		if h, ok := x.named(name); ok {
			return refused(h)
		}
	}
	if st.Nlink > 1 {
		if h, ok, err := x.linked(ctx, id); err != nil || ok {
			if err != nil {
				return bridge.ReasonNone, "", err
			}
			return refused(h)
		}
	}
	return bridge.ReasonNone, "", nil
}

// Scope says in words what is known of the packages of this machine, for people who ask what the table covers here.
func (f *Files) Scope(ctx context.Context) (string, error) {
	x, err := f.index(ctx)
	if err != nil {
		return "", err
	}
	if x.packaged < 0 {
		return "no dpkg database: which package a file is from is not known, everything in the program folders is protected", nil
	}
	return fmt.Sprintf("%d files belong to packages the system needs", x.packaged), nil
}

func refused(h hit) (bridge.Reason, string, error) { return bridge.ReasonProtectedPath, h.why(), nil }

func entry(name string) *Entry {
	e := named(KindFile, name)
	return &e
}

// index returns the table as it is on disk, read within the last minute.
func (f *Files) index(ctx context.Context) (*fileIndex, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.indexLocked(ctx)
}

func (f *Files) indexLocked(ctx context.Context) (*fileIndex, error) {
	now := f.cfg.Now()
	if f.last != nil && now.Sub(f.last.at) < indexMaxAge && !now.Before(f.last.at) {
		return f.last, nil
	}
	entries := Of(KindFile)
	x := &fileIndex{index: newIndex(entries), at: now}
	for i := range entries {
		switch e := &entries[i]; e.Name {
		case OwnFiles:
			x.addOwn(e, f.cfg.Own)
		case SystemPackage:
			if err := x.addPackages(ctx, e, f.cfg.Packages); err != nil {
				return nil, err
			}
		}
	}
	f.last = x
	return x, nil
}

// addOwn takes up the agent's own files. What does not exist yet counts by its name, and as a folder.
func (x *fileIndex) addOwn(e *Entry, own []string) {
	if self, err := os.Readlink("/proc/self/exe"); err == nil {
		own = append(slices.Clip(own), self)
	}
	for _, name := range own {
		name = filepath.Clean(name)
		all := []string{name}
		if real, err := filepath.EvalSymlinks(name); err == nil && real != name {
			all = append(all, real)
		}
		for _, n := range all {
			x.byName[n] = hit{entry: e, name: n}
			x.identify(hit{entry: e, name: n})
			x.trees = append(x.trees, hit{entry: e, name: n + "/"})
		}
	}
}

func (x *fileIndex) addPackages(ctx context.Context, e *Entry, folder string) error {
	owners, known, err := packageFiles(ctx, folder, e.Packages)
	if err != nil {
		return err
	}
	if !known {
		x.packaged = -1
		for _, folder := range programFolders() {
			x.trees = append(x.trees, hit{e, folder, "the package it is from is not known"})
		}
		return nil
	}
	x.owners = make(map[string]string, len(owners))
	folders := make(map[string]string)
	for name, owner := range owners {
		// The lists say /bin/x where /bin is a link to /usr/bin; files are compared by the name the kernel says.
		dir, ok := folders[filepath.Dir(name)]
		if !ok {
			dir = filepath.Dir(name)
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				dir = real
			}
			folders[filepath.Dir(name)] = dir
		}
		name = filepath.Join(dir, filepath.Base(name))
		var st unix.Stat_t
		// A link is not the file of the package it leads to.
		if unix.Lstat(name, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		h := hit{e, name, "package " + owner}
		x.owners[name] = owner
		x.packaged++
		if _, ok := x.byName[name]; !ok {
			x.byName[name] = h
		}
		if id := (files.ID{Dev: st.Dev, Ino: st.Ino}); x.byID[id].entry == nil {
			x.byID[id] = h
		}
	}
	return nil
}

// namesOf returns every name the open file has here; mounted is true when something is mounted on the file itself.
func namesOf(file *os.File, path string) (names []string, mounted bool, err error) {
	fd := strconv.Itoa(int(file.Fd()))
	real, err := os.Readlink("/proc/self/fd/" + fd)
	if err != nil {
		return nil, false, fmt.Errorf("name of the file: %w", err)
	}
	info, err := os.ReadFile("/proc/self/fdinfo/" + fd) //nolint:gosec // a number
	if err != nil {
		return nil, false, fmt.Errorf("mount of the file: %w", err)
	}
	id, err := mountID(info)
	if err != nil {
		return nil, false, err
	}
	// A mount that is overlooked could hide a protected file: a list that cannot be read whole is an error.
	mounts, err := files.Mounts()
	if err != nil {
		return nil, false, err
	}
	for _, m := range mounts {
		if m.ID == id && m.Point == real {
			mounted = true
		}
	}
	names = append(names, real)
	if path != "" {
		names = append(names, filepath.Clean(path))
	}
	return append(names, aliases(mounts, id, real)...), mounted, nil
}

// mountID reads the number of the mount a file was opened on (proc_pid_fdinfo(5)).
func mountID(info []byte) (int, error) {
	lines := bufio.NewScanner(bytes.NewReader(info))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				return 0, fmt.Errorf("mount of the file: %w", err)
			}
			return id, nil
		}
	}
	return 0, errors.New("mount of the file: the kernel does not tell it")
}

// ofKernel reports whether the file is an interface of the kernel, wherever its file system is mounted (statfs(2)).
func ofKernel(file *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return false, fmt.Errorf("file system of the file: %w", err)
	}
	switch st.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
		unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.BINFMTFS_MAGIC,
		unix.NSFS_MAGIC, unix.SELINUX_MAGIC, unix.RDTGROUP_SUPER_MAGIC, configfsMagic, fusectlMagic, mqueueMagic:
		return true, nil
	default:
		return false, nil
	}
}

// Magic numbers of the kernel's sources that are not in x/sys (fs/configfs/mount.c, fs/fuse/control.c, ipc/mqueue.c).
const (
	configfsMagic = 0x62656570
	fusectlMagic  = 0x65735543
	mqueueMagic   = 0x19800202
)

func fstat(file *os.File, st *unix.Stat_t) error {
	if file == nil {
		return errors.New("look at the file: it is not open")
	}
	if err := unix.Fstat(int(file.Fd()), st); err != nil {
		return fmt.Errorf("look at the file: %w", err)
	}
	return nil
}
