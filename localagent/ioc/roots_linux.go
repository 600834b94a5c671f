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

func chooseRoots(cfg Config, mounts []mount) places {
	var roots []string
	var left []leftOut
	covered := map[string]bool{}
	switch cfg.Scope {
	case ScopeAll:
		roots, left = allRoots(cfg, mounts)
		// Everything mounted somewhere is a root, or is seen through one: a second mount of the same filesystem would be
		// walked again.
		for _, m := range mounts {
			covered[m.point] = true
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
		if storageOf(m.kind) == remote {
			covered[m.point] = true
		}
	}
	return places{outermost(roots, mounts), left, covered}
}

// allRoots picks one mount of every filesystem with files.
func allRoots(cfg Config, mounts []mount) (roots []string, left []leftOut) {
	best := map[string]mount{}
	for _, m := range mounts {
		if cfg.excluded(m.point) {
			left = append(left, leftOut{m.point, whyExcluded})
			continue
		}
		switch storageOf(m.kind) {
		case made:
			continue
		case remote:
			if !cfg.Network {
				left = append(left, leftOut{m.point, whyNetwork})
				continue
			}
		case merged:
			if m.point != "/" {
				left = append(left, leftOut{m.point, whyMerged})
				continue
			}
		case local:
		}
		// Of a filesystem that is mounted several times, the place that shows most of it.
		b, known := best[m.device]
		if !known || cmp.Or(cmp.Compare(len(m.root), len(b.root)), cmp.Compare(len(m.point), len(b.point))) < 0 {
			best[m.device] = m
		}
	}
	for _, m := range mounts {
		if best[m.device] == m {
			roots = append(roots, m.point)
		}
	}
	return roots, left
}

// namedRoots takes the roots that lie on filesystems with files.
func namedRoots(cfg Config, mounts []mount, named []string) (roots []string, left []leftOut) {
	for _, r := range named {
		m := mountOf(mounts, r)
		switch {
		case cfg.excluded(r):
			left = append(left, leftOut{r, whyExcluded})
		case storageOf(m.kind) == made:
			left = append(left, leftOut{r, whyRootOther})
		case storageOf(m.kind) == remote && !cfg.Network:
			left = append(left, leftOut{r, whyNetwork})
		default:
			roots = append(roots, r)
		}
	}
	return roots, left
}

// mountOf returns the mount a path lies on.
func mountOf(mounts []mount, name string) mount {
	var m mount
	for _, c := range mounts {
		if (c.point == "/" || c.point == name || strings.HasPrefix(name, c.point+"/")) && len(c.point) >= len(m.point) {
			m = c
		}
	}
	return m
}

// outermost leaves out roots that the walk of another root reaches: those below it on the same mount.
func outermost(roots []string, mounts []mount) []string {
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
