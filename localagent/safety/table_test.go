package safety

import (
	"path"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestEveryEntrySaysWhatAndWhy(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, e := range Table() {
		key := string(e.Kind) + "/" + string(e.System) + "/" + e.Name
		if seen[key] {
			t.Errorf("%s is twice in the table", key)
		}
		seen[key] = true
		if e.Kind == "" || e.Name == "" || e.Why == "" {
			t.Errorf("%s: kind, name and reason are needed", key)
		}
		if len(e.Paths) == 0 && len(e.Units) == 0 && e.Narrow == "" {
			t.Errorf("%s says nothing of what is meant", key)
		}
		for _, p := range e.Paths {
			switch _, err := path.Match(p, "/"); {
			case err != nil && e.System == Linux:
				t.Errorf("%s: %s: %v", key, p, err)
			case e.System == Linux && !strings.HasPrefix(p, "/"), e.System == Windows && !strings.HasPrefix(p, "{"):
				t.Errorf("%s: %s is not absolute", key, p)
			case p == "/":
				t.Errorf("%s protects everything", key)
			}
		}
	}
}

func TestTheDocumentNamesEveryEntry(t *testing.T) {
	t.Parallel()
	doc := Document()
	for _, e := range Table() {
		if !strings.Contains(doc, "| "+cell(e.title())+" |") || !strings.Contains(doc, cell(e.Why)) {
			t.Errorf("the document does not name %s %s", e.Kind, e.Name)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(doc), "\n") {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|")-strings.Count(line, `\|`) != 4 {
			t.Errorf("not three columns: %s", line)
		}
	}
}

// TestTheTableIsNoLooserThanTheBridgesGuards compares the two tables: what the bridge never sends to anybody, the agent never
// does either. The program folders are apart: the bridge protects them whole, the agent by package.
func TestTheTableIsNoLooserThanTheBridgesGuards(t *testing.T) {
	t.Parallel()
	guard, err := bridge.NewProtect(bridge.ProtectConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{
		"/sbin/init", "/usr/sbin/init", "/bin/systemd", "/usr/bin/systemd", "/usr/lib/systemd/systemd", "/lib/systemd/systemd-logind",
		"/usr/lib/systemd/systemd-journald", "/usr/bin/dbus-daemon", "/bin/dbus-daemon", "/usr/bin/dbus-broker", "/usr/bin/dbus-broker-launch",
		"/usr/sbin/sshd", "/sbin/sshd", "/usr/sbin/qemu-ga", "/usr/bin/qemu-ga", "/usr/bin/vmtoolsd", "/opt/kaspersky/kesl/bin/kesl",
		"/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/usr/bin/containerd-shim-runc-v2", "/usr/local/bin/containerd",
		"/usr/bin/crio", "/usr/local/bin/crio", "/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet",
	} {
		if reason, _ := guard.CheckProcess(image); reason == bridge.ReasonNone {
			t.Errorf("the bridge does not protect %s: take it out of this list", image)
		}
		if !covered(KindProcess, image) {
			t.Errorf("the process table does not cover %s", image)
		}
	}
	for _, file := range []string{
		"/boot/vmlinuz-6.1", "/efi/EFI/x.efi", "/proc/1/mem", "/sys/power/state", "/dev/sda", "/dev/block/8:0", "/dev/bus/usb/001", "/dev/char/1:1",
		"/dev/cpu/0/msr", "/dev/disk/by-id/x", "/dev/dri/card0", "/dev/fd/0", "/dev/input/event0", "/dev/mapper/x", "/dev/net/tun", "/dev/pts/0",
		"/dev/snd/seq", "/dev/vfio/1", "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d/x", "/etc/fstab",
		"/etc/ssh/sshd_config", "/etc/pam.d/login", "/opt/kaspersky/x", "/var/opt/kaspersky/x", "/etc/opt/kaspersky/x",
	} {
		if reason, _ := guard.Check(bridge.Order{Host: "ws01", Task: bridge.DeleteFile{Path: file}}); reason == bridge.ReasonNone {
			t.Errorf("the bridge does not protect %s: take it out of this list", file)
		}
		if !covered(KindFile, file) {
			t.Errorf("the file table does not cover %s", file)
		}
	}
	if covered(KindFile, "/dev/shm/evil") || covered(KindFile, "/tmp/evil") || covered(KindFile, "/home/user/.ssh/id_evil") {
		t.Error("the file table covers places anybody can write to")
	}
}

func covered(kind Kind, name string) bool {
	for _, e := range Table() {
		for _, p := range e.Paths {
			ok, err := path.Match(p, name)
			if e.Kind == kind && (err == nil && ok || tree(p) && strings.HasPrefix(name, p)) {
				return true
			}
		}
	}
	return false
}
