package ioc

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestServicesAreCollectedFromUnitFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lib, etc := root+"/usr/lib/systemd/system/", root+"/etc/systemd/system/"
	write(t, lib+"web.service", "[Unit]\nDescription=The web\n[Service]\nType=notify\nUser=www\nExecStartPre=-/usr/bin/test -d /x\nExecStart=/usr/sbin/web --conf \\\n /etc/web\n# ExecStart=/no\n")
	write(t, etc+"web.service.d/evil.conf", "[Service]\nExecStart=\nExecStart=@!/tmp/evil evil -x\n")
	write(t, lib+"old.service", "[Service]\nExecStart=/usr/bin/old\n")
	write(t, etc+"old.service", "[Service]\nExecStart=/usr/bin/new\n")
	write(t, lib+"getty@.service", "[Service]\nExecStart=/sbin/agetty %I\n")
	write(t, root+"/etc/init.d/legacy", "#!/bin/sh\n")
	write(t, root+"/home/u/.config/systemd/user/mine.service", "[Service]\nExecStart=/home/u/miner\n")
	write(t, root+"/secret", "[Service]\nExecStart=/not/to/be/read\n")
	write(t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\n")
	write(t, root+"/proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	write(t, root+"/proc/77/cgroup", "0::/system.slice/web.service\n")
	write(t, root+"/proc/78/cgroup", "0::/user.slice/session-1.scope\n")
	for link, to := range map[string]string{
		etc + "multi-user.target.wants/web.service": "/usr/lib/systemd/system/web.service", etc + "getty.target.wants/getty@tty1.service": lib + "getty@.service",
		etc + "dead.service": "/dev/null", root + "/home/u/.config/systemd/user/trap.service": root + "/secret",
	} {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(root+"/home/u/.config/systemd/user/fifo.service", 0o644); err != nil {
		t.Fatal(err)
	}
	records := collected(t, KindService, host{root: root})
	for name, want := range map[string]string{
		"web":        "path=[/usr/bin/test /usr/sbin/web /tmp/evil] mode=SERVICE_AUTO_START status=SERVICE_RUNNING",
		"old":        "path=[/usr/bin/new] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"getty@":     "path=[/sbin/agetty] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"getty@tty1": "path=[/sbin/agetty] mode=SERVICE_AUTO_START status=SERVICE_STOPPED",
		"dead":       "path=[] mode=SERVICE_DISABLED status=SERVICE_STOPPED",
		"legacy":     "path=[/etc/init.d/legacy] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
		"mine":       "path=[/home/u/miner] mode=SERVICE_DEMAND_START status=SERVICE_STOPPED",
	} {
		f := find(t, records, "name", name).Fields
		paths := make([]string, len(f["path"]))
		for i, p := range f["path"] {
			paths[i] = string(p)
		}
		if got := fmt.Sprintf("path=%v mode=%s status=%s", paths, string(f["mode"][0]), string(f["status"][0])); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	web := find(t, records, "name", "web.service").Fields
	if web["startedAs"][0] != "www" || web["type"][0] != "notify" || web["description"][0] != "The web" || web["pid"][0] != "77" || web["arguments"][1] != "--conf   /etc/web" {
		t.Errorf("web is %v", web)
	}
	if len(records) != 7 {
		t.Errorf("%d services, want 7", len(records))
	}
}

func TestUsersAreCollectedWithGroupsAndLogins(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/etc/passwd", "root:x:0:0:Root,Room 1:/root:/bin/sh\n\nu:x:3:100::/home/u:/bin/sh\nbroken:x\n+::::::\nw:x:4:4::/:/bin/sh\n")
	write(t, root+"/etc/group", "root:x:0:\nusers:x:100:\nwheel:x:10:u,root\n")
	write(t, root+"/etc/shadow", "root:!$6$secret:19000:0:99999:7:::\nu::19000:0:99999:7::10:\n")
	log := make([]byte, lastlogSize*4)
	binary.NativeEndian.PutUint32(log[lastlogSize*3:], 1_700_000_000)
	write(t, root+"/var/log/lastlog", string(log))
	entry := func(kind uint16, user string, at uint32) string {
		b := make([]byte, utmpSize)
		binary.NativeEndian.PutUint16(b, kind)
		copy(b[utmpUser:], user)
		binary.NativeEndian.PutUint32(b[utmpSeconds:], at)
		return string(b)
	}
	write(t, root+"/var/log/wtmp", entry(7, "u", 1_600_000_000)+entry(8, "root", 1_800_000_000)+entry(7, "w", 1_750_000_000)+"rest")
	records := collected(t, KindUser, host{root: root})
	for user, want := range map[string]map[string]string{
		"root": {"fullname": "[Root]", "SecurityID": "[0]", "grouplist/groupname": "[wheel root]", "lockedout": "[true]", "passwordrequired": "[true]", "disabled": "[false]", "LastLogin": "[]"},
		"u":    {"homedirectory": "[/home/u]", "grouplist/groupname": "[wheel users]", "lockedout": "[false]", "passwordrequired": "[false]", "disabled": "[true]", "LastLogin": "[2023-11-14T22:13:20Z]"},
		"w":    {"LastLogin": "[2025-06-15T15:06:40Z]", "lockedout": "[]"},
	} {
		f := find(t, records, "Username", user).Fields
		for field, w := range want {
			if got := fmt.Sprint(f[field]); got != w {
				t.Errorf("%s: %s is %s, want %s", user, field, got, w)
			}
		}
		for _, values := range f {
			for _, v := range values {
				if strings.Contains(string(v), "$6$") {
					t.Errorf("%s: the password stands in the record", user)
				}
			}
		}
	}
	if len(records) != 3 {
		t.Errorf("%d users, want 3", len(records))
	}
}
