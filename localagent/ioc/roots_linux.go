package ioc

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	whyNetwork = "a filesystem of another machine or of a program, which may hang"
	whyMerged  = "it shows files again that are elsewhere on this machine"
)

// criticalRoots are the folders of ScopeCritical.
func criticalRoots() []string {
	return []string{
		"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot", "/dev/shm", "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr",
		"/var/lib/systemd", "/var/local", "/var/spool", "/var/tmp", "/var/www",
	}
}

// rootsOf returns where files are looked for. It reads the list of mounts only: to look at a
// filesystem that hangs would hang the scan.
func rootsOf(cfg Config) (places, error) {
	mounts, err := host{}.mounts()
	if err != nil {
		return places{}, err
	}
	return chooseRoots(cfg, mounts), nil
}

func chooseRoots(cfg Config, mounts []files.Mount) places {
	var roots []string
	var left []leftOut
	covered := map[string]bool{}
	switch cfg.Scope {
	case ScopeAll:
		roots, left = allRoots(cfg, mounts)
		// Everything mounted somewhere is a root, is seen through one, or is left out by name: to enter it from another root would be to
		// walk it again.
		for _, m := range mounts {
			covered[m.Point] = true
		}
	case ScopeSystem:
		roots = []string{"/"}
	case ScopeCritical:
		roots, left = namedRoots(cfg, mounts, criticalRoots())
		// Links such as /bin are covered by where they lead; what a machine does not have is not missed.
		roots = slices.DeleteFunc(roots, func(r string) bool { return !isFolder(r) })
	case ScopeCustom:
		roots, left = namedRoots(cfg, mounts, cfg.Roots)
	}
	for _, m := range mounts {
		// Never entered from another filesystem, but even to look at its root may hang.
		if storageOf(m.Type) == remote {
			covered[m.Point] = true
		}
	}
	return places{outermost(roots, mounts), left, covered}
}

// allRoots picks mounts that together show every file of every filesystem with files.
func allRoots(cfg Config, mounts []files.Mount) (roots []string, left []leftOut) {
	byDevice := map[string][]files.Mount{}
	for _, m := range mounts {
		if cfg.excluded(m.Point) {
			left = append(left, leftOut{m.Point, whyExcluded})
			continue
		}
		switch storageOf(m.Type) {
		case made:
			continue
		case remote:
			if !cfg.Network {
				left = append(left, leftOut{m.Point, whyNetwork})
				continue
			}
		case merged:
			if m.Point != "/" {
				left = append(left, leftOut{m.Point, whyMerged})
				continue
			}
		case local:
		}
		byDevice[m.Device] = append(byDevice[m.Device], m)
	}
	for _, same := range byDevice {
		// Those that show most come first. One device does not mean one tree: subvolumes of btrfs and folders bound from one disk have it too.
		slices.SortFunc(same, func(a, b files.Mount) int {
			return cmp.Or(cmp.Compare(len(a.Root), len(b.Root)), cmp.Compare(len(a.Point), len(b.Point)), cmp.Compare(a.Point, b.Point))
		})
		var kept []files.Mount
		for _, m := range same {
			if !slices.ContainsFunc(kept, func(k files.Mount) bool { return shows(k, m, mounts) }) {
				kept = append(kept, m)
				roots = append(roots, m.Point)
			}
		}
	}
	return roots, left
}

// shows reports whether the files of mount m are seen through mount k of the same filesystem as well: k is of a folder above, and nothing
// is mounted over the way there.
func shows(k, m files.Mount, mounts []files.Mount) bool {
	if k.Root != m.Root && !files.Below(m.Root, k.Root) {
		return false
	}
	return mountOf(mounts, path.Join(k.Point, strings.TrimPrefix(m.Root, k.Root))) == k
}

// namedRoots takes the roots that lie on filesystems with files.
func namedRoots(cfg Config, mounts []files.Mount, named []string) (roots []string, left []leftOut) {
	for _, r := range named {
		m := mountOf(mounts, r)
		switch {
		case cfg.excluded(r):
			left = append(left, leftOut{r, whyExcluded})
		case storageOf(m.Type) == made:
			left = append(left, leftOut{r, whyRootOther})
		case storageOf(m.Type) == remote && !cfg.Network:
			left = append(left, leftOut{r, whyNetwork})
		default:
			roots = append(roots, r)
		}
	}
	return roots, left
}

// mountOf returns the mount a path lies on.
func mountOf(mounts []files.Mount, name string) files.Mount {
	var m files.Mount
	for _, c := range mounts {
		if (c.Point == "/" || c.Point == name || strings.HasPrefix(name, c.Point+"/")) && len(c.Point) >= len(m.Point) {
			m = c
		}
	}
	return m
}

// outermost leaves out roots that the walk of another root reaches: those below it on the same mount.
func outermost(roots []string, mounts []files.Mount) []string {
	roots = slices.Clone(roots)
	slices.SortFunc(roots, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	var kept []string
	for _, r := range slices.Compact(roots) {
		if !slices.ContainsFunc(kept, func(k string) bool {
			return (k == r || files.Below(r, k)) && mountOf(mounts, k) == mountOf(mounts, r)
		}) {
			kept = append(kept, path.Clean(r))
		}
	}
	return kept
}
