package ioc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

func TestRootsAreChosenFromTheMounts(t *testing.T) {
	t.Parallel()
	h := host{root: t.TempDir()}
	write(t, h.path("/proc/self/mountinfo"), `1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:6 / /dev/shm rw - tmpfs tmpfs rw
4 1 8:2 / /home rw - xfs /dev/sda2 rw
5 1 8:2 /u /srv/u rw - xfs /dev/sda2 rw
6 1 0:7 / /mnt/nfs rw - nfs4 server:/x rw
7 1 0:8 / /mnt/ssh\040fs rw - fuse.sshfs me@there rw
8 1 0:9 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
9 1 8:3 / /mnt/gone rw - ext4 /dev/sda3 rw
10 9 0:5 / /mnt/gone rw - proc proc rw
11 1 8:4 / /vault rw - ext4 /dev/sda4 rw
`)
	mounts, err := h.mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		want string
		left string
	}{
		{Config{Scope: ScopeAll, Exclude: []string{"/vault"}}, "[/ /home /dev/shm]", "[/mnt/nfs /mnt/ssh fs /var/lib/docker/overlay2/x/merged /vault]"},
		{Config{Scope: ScopeAll, Network: true}, "[/ /home /vault /dev/shm /mnt/nfs /mnt/ssh fs]", "[/var/lib/docker/overlay2/x/merged]"},
		{Config{Scope: ScopeSystem}, "[/]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/home/u", "/home", "/homes", "/home", "/srv/u/x"}}, "[/home /homes /srv/u/x]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/", "/home", "/etc"}}, "[/ /home]", "[]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/mnt/nfs/a", "/mnt/ssh fs", "/proc/1", "/mnt/gone/x", "/var/lib/docker/overlay2/x/merged/etc"}}, "[/var/lib/docker/overlay2/x/merged/etc]", "[/mnt/nfs/a /mnt/ssh fs /proc/1 /mnt/gone/x]"},
		{Config{Scope: ScopeCustom, Roots: []string{"/mnt/nfs/a"}, Network: true}, "[/mnt/nfs/a]", "[]"},
	} {
		got := chooseRoots(c.cfg, mounts)
		var left []string
		for _, l := range got.left {
			left = append(left, l.path)
		}
		if fmt.Sprint(got.roots) != c.want || fmt.Sprint(left) != c.left {
			t.Errorf("%v %v: roots %v, want %s; left %v, want %s", c.cfg.Scope, c.cfg.Roots, got.roots, c.want, left, c.left)
		}
	}
	if got := chooseRoots(Config{Scope: ScopeAll}, mounts).covered; !got["/srv/u"] || !got["/proc"] || got["/etc"] {
		t.Errorf("covered %v", got)
	}
	for layout, want := range map[string]string{
		"subvolumes of btrfs": `[/ /home /snap]
1 0 0:32 /root / rw - btrfs /dev/sda2 rw
2 1 0:32 /home /home rw - btrfs /dev/sda2 rw
3 1 0:32 /home/u /srv/u rw - btrfs /dev/sda2 rw
4 1 0:32 /root-1 /snap rw - btrfs /dev/sda2 rw`,
		"folders bound from one disk": `[/ /srv/x /srv/yy]
1 0 0:50 / / rw - overlay overlay rw
2 1 8:9 /data/x /srv/x rw - ext4 /dev/sdb1 rw
3 1 8:9 /data/x /srv/again rw - ext4 /dev/sdb1 rw
4 1 8:9 /data/y /srv/yy rw - ext4 /dev/sdb1 rw
5 1 8:9 /data/y/z /srv/z rw - ext4 /dev/sdb1 rw`,
		"a folder something else hides": `[/ /new /shown]
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /new rw - ext4 /dev/sdb1 rw
3 1 8:1 /new/a /shown rw - ext4 /dev/sda1 rw`,
	} {
		want, table, _ := strings.Cut(want, "\n")
		mounts, err := files.ParseMounts(strings.NewReader(table + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := chooseRoots(Config{Scope: ScopeAll}, mounts).roots; fmt.Sprint(got) != want {
			t.Errorf("%s: roots %v, want %s", layout, got, want)
		}
	}
	write(t, h.path("/proc/self/mountinfo"), "1 0 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n")
	if _, err := h.mounts(); err == nil {
		t.Error("nonsense was read")
	}
	critical := chooseRoots(Config{Scope: ScopeCritical}, mounts)
	if !slices.Contains(critical.roots, "/etc") || !slices.Contains(critical.roots, "/usr") || slices.Contains(critical.roots, "/") {
		t.Errorf("critical roots %v", critical.roots)
	}
}
