package scan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/agenttest"
)

// machine is a tree that stands for a machine.
type machine struct {
	t    testing.TB
	dir  string
	opts Roots
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	m.opts = Roots{
		Root: m.at("root"), Proc: m.at("proc"), Sys: m.at("sys"), Dev: m.at("dev"), MountInfo: m.at("mountinfo"),
		OpenDevice: func(path string, _, _ uint32) (*os.File, error) { return os.Open(path) },
	}
	for _, d := range []string{"root", "proc", "sys/block", "sys/dev/block", "sys/class/block", "dev"} {
		if err := os.MkdirAll(m.at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.file("mountinfo", "")
	return m
}

func (m *machine) at(path string) string { return filepath.Join(m.dir, path) }

func (m *machine) file(path, content string) string {
	m.t.Helper()
	write(m.t, m.at(path), []byte(content))
	return m.at(path)
}

func (m *machine) link(target, path string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.at(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, m.at(path)); err != nil {
		m.t.Fatal(err)
	}
}

// scan returns the paths an engine was asked about, below the machine.
func (m *machine) scan(kind bridge.ScanType) ([]string, Result) {
	m.t.Helper()
	e := &fake{}
	s := newScanner(m.t, Config{Engine: e, Roots: m.opts})
	res, err := s.Scan(m.t.Context(), []bridge.ScanObject{{Enabled: true, Type: kind}}, nil)
	if err != nil {
		m.t.Fatalf("%s: %v", kind, err)
	}
	if res.Truncated != "" || res.notReached() != 0 {
		m.t.Fatalf("%s: %v", kind, res)
	}
	var got []string
	for _, p := range e.asked {
		got = append(got, strings.TrimPrefix(p, m.dir+"/"))
	}
	slices.Sort(got)
	return got, res
}

func (m *machine) want(kind bridge.ScanType, want ...string) {
	m.t.Helper()
	got, res := m.scan(kind)
	if !slices.Equal(got, want) {
		m.t.Errorf("%s: got\n  %s\nwant\n  %s\n%v", kind, strings.Join(got, "\n  "), strings.Join(want, "\n  "), res)
	}
}

func TestStartupScopeFindsStartFilesAndWhatTheyName(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("root/etc/systemd/system/a.service", "[Service]\nExecStart=-/opt/a/daemon --config=/opt/a/conf %i\nExecStop=stopper\n")
	m.file("root/opt/a/daemon", "x")
	m.file("root/opt/a/conf", "x")
	m.file("root/usr/bin/stopper", "x")
	m.file("root/opt/linked.service", "ExecStart=/bin/sh -c '/opt/b/run.sh'")
	m.link("/opt/linked.service", "root/etc/systemd/system/multi-user.target.wants/linked.service")
	m.link("usr/bin", "root/bin")
	m.link("dash", "root/usr/bin/sh")
	m.file("root/usr/bin/dash", "x")
	m.file("root/opt/b/run.sh", "/opt/b/not-followed-further")
	m.file("root/opt/b/not-followed-further", "x")
	m.file("root/etc/cron.d/job", "PATH=/usr/bin:/bin\n* * * * * root /opt/cronjob >/dev/null\n")
	m.file("root/opt/cronjob", "x")
	m.file("root/var/spool/cron/crontabs/user", "@reboot /home/user/evil\n")
	m.file("root/home/user/evil", "x")
	m.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:1:1::/nonexistent:/x\nbad\n")
	m.file("root/home/user/.bashrc", "source ~/.x\n")
	m.file("root/home/user/.config/autostart/x.desktop", "[Desktop Entry]\nExec=starter\n")
	m.file("root/usr/local/bin/starter", "x")
	m.file("root/etc/ld.so.preload", "/usr/lib/preload.so\n")
	m.file("root/usr/lib/preload.so", "\x7fELF\x00/opt/never")
	m.file("root/opt/never", "x")
	m.file("root/lib/udev/rules.d/60-x.rules", `ACTION=="add", RUN+="helper --add", PROGRAM="/sbin/absent"`+"\n")
	m.file("root/lib/udev/helper", "x")
	m.file("root/etc/rc.local", "#!/bin/sh\n")
	m.file("root/etc/profile.d/p.sh", "x\n")
	m.file("root/etc/init.d/svc", "\x7fELF\x00binary /opt/never")
	m.file("root/opt/unrelated", "x")
	m.link("loop", "root/etc/profile.d/loop")
	m.link("/etc/profile.d", "root/etc/profile.d/round")
	if err := unix.Mkfifo(m.at("root/etc/cron.d/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.want(bridge.ScanStartupAndProcesses,
		"root/etc/cron.d/job", "root/etc/init.d/svc", "root/etc/ld.so.preload", "root/etc/profile.d/p.sh", "root/etc/rc.local",
		"root/etc/systemd/system/a.service", "root/home/user/.bashrc", "root/home/user/.config/autostart/x.desktop", "root/home/user/evil",
		"root/lib/udev/helper", "root/lib/udev/rules.d/60-x.rules",
		"root/opt/a/conf", "root/opt/a/daemon", "root/opt/b/run.sh", "root/opt/cronjob", "root/opt/linked.service",
		"root/usr/bin/dash", "root/usr/bin/stopper", "root/usr/lib/preload.so", "root/usr/local/bin/starter", "root/var/spool/cron/crontabs/user")
}

func TestOneAccountHidesNothingButItsOwnPrograms(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("root/etc/passwd", "a:x:1:1::/home/a:/bin/sh\nm:x:2:2::/home/m:/bin/sh\nz:x:3:3::/home/z:/bin/sh\n")
	var many strings.Builder
	for i := range maxStartWords + 1 {
		many.WriteString("# w" + strconv.Itoa(i) + "x\n")
	}
	m.file("root/home/m/.bashrc", many.String()+"/opt/hidden\n")
	m.file("root/home/m/.profile", "/opt/hidden\n")
	m.file("root/opt/hidden", "x")
	m.file("root/home/m/.config/autostart/x.desktop", "Exec=m-program\n")
	m.file("root/home/z/.bashrc", strings.Repeat("#", 2<<20)+"\x00\n~/one\x00$HOME/two ${HOME}/three\nfour\n")
	m.file("root/home/z/.config/systemd/user/u.service", "\x7fELF\nExecStart=%h/.local/bin/five\n")
	for _, name := range []string{"one", "two", "three", ".local/bin/four", ".local/bin/five"} {
		m.file("root/home/z/"+name, name)
	}
	got, res := m.scan(bridge.ScanStartupAndProcesses)
	want := []string{
		"root/home/m/.bashrc", "root/home/m/.config/autostart/x.desktop", "root/home/m/.profile",
		"root/home/z/.bashrc", "root/home/z/.config/systemd/user/u.service",
		"root/home/z/.local/bin/five", "root/home/z/.local/bin/four", "root/home/z/one", "root/home/z/three", "root/home/z/two",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if len(res.Skipped) != 1 || res.Skipped[0].Reason != reasonManyNames || res.Skipped[0].Count != 3 || res.Complete() {
		t.Errorf("skipped %+v, want the three start files whose names were not all looked up", res.Skipped)
	}
}

func TestMappedFilesWithTheSameNumbersAreBothLookedAt(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a, b := m.file("libs/a.so", "a"), m.file("libs/b.so", "b")
	m.file("proc/7/maps", "1000-2000 r-xp 00000000 00:20 257 "+a+"\n2000-3000 r-xp 00000000 00:20 257 "+b+"\n2000-3000 r-xp 00001000 00:20 257 "+b+"\n")
	m.link(a, "proc/7/map_files/1000-2000")
	m.link(b, "proc/7/map_files/2000-3000")
	got, _ := m.scan(bridge.ScanSystemMemory)
	if len(got) != 2 {
		t.Errorf("got %v, want both", got)
	}
}

func TestProcessesThatMayNotBeLookedAtAreCounted(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	m := newMachine(t)
	image := m.file("image", "x")
	for _, pid := range []string{"7", "8", "9"} {
		m.file("proc/"+pid+"/maps", "")
		m.link(image, "proc/"+pid+"/exe")
	}
	if err := errors.Join(os.Remove(m.at("proc/8/exe")), os.Remove(m.at("proc/9/exe"))); err != nil {
		t.Fatal(err)
	}
	m.link("gone", "proc/8/exe") // as of one that ended
	m.link("exe", "proc/9/exe")  // an error of another kind
	if _, res := m.scan(bridge.ScanSystemMemory); res.Clean != 1 || total(res.Failed) != 1 || res.Complete() {
		t.Errorf("got %v: want one clean image, and one that could not be looked at", res)
	}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	drop := asNobody(t)
	m.file("proc/9/maps", "")
	if err := errors.Join(os.Chmod(m.at("proc/7"), 0), os.Chmod(m.at("proc/9"), 0)); err != nil {
		t.Fatal(err)
	}
	objects := []bridge.ScanObject{{Enabled: true, Type: bridge.ScanFolder, Path: m.file("first/x", "x")}, {Enabled: true, Type: bridge.ScanSystemMemory}}
	res, err := newScanner(t, Config{Engine: &fake{}, Roots: m.opts, Exclude: drop}).Scan(t.Context(), objects, nil)
	if err != nil || total(res.Failed) < 4 || res.Failed[0].Reason != reasonDenied {
		t.Errorf("got %v, %v: want images and mappings of two processes denied", res, err)
	}
	m.opts.Proc = m.at("nothing")
	if res, err := newScanner(t, Config{Engine: &fake{}, Roots: m.opts}).Scan(t.Context(), objects[1:], nil); err == nil {
		t.Errorf("got %v without a list of processes", res)
	}
}

func TestBootScopeReadsDisksPartitionsAndLoaders(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for name, number := range map[string]string{"sda": "8:0", "sda/sda1": "8:1", "loop0": "7:0", "dm-0": "253:0", "sr0": "11:0", "sdempty": "8:16"} {
		m.file("sys/block/"+name+"/dev", number+"\n")
		m.file("sys/block/"+name+"/size", "4096\n")
		m.file("dev/"+filepath.Base(name), strings.Repeat("\x00", 2<<20))
	}
	m.file("sys/block/sda/sda1/partition", "1\n")
	m.file("sys/block/sdempty/size", "0\n")
	m.file("root/boot/vmlinuz", "x")
	m.file("root/boot/grub/core.img", "x")
	m.file("root/efi/EFI/boot/bootx64.efi", "x")
	m.want(bridge.ScanDiskBootSectors, "dev/sda", "dev/sda1", "root/boot/grub/core.img", "root/boot/vmlinuz", "root/efi/EFI/boot/bootx64.efi")

	// What is infected is the region, and no more than its first MiB is looked at.
	write(t, m.at("dev/sda"), append([]byte(marker), make([]byte, 2<<20)...))
	write(t, m.at("dev/sda1"), append(make([]byte, bootRegion), marker...))
	s := newScanner(t, Config{Engine: named{builtinWith(t, markerLine)}, Roots: m.opts})
	res, err := s.Scan(t.Context(), []bridge.ScanObject{{Enabled: true, Type: bridge.ScanDiskBootSectors}}, nil)
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Kind != KindRegion || res.Findings[0].Path != m.at("dev/sda") || res.Findings[0].SHA256 == "" {
		t.Errorf("got %+v, %v", res.Findings, err)
	}
	m.opts.OpenDevice = nil
	s = newScanner(t, Config{Engine: &fake{}, Roots: m.opts})
	res, err = s.Scan(t.Context(), []bridge.ScanObject{{Enabled: true, Type: bridge.ScanDiskBootSectors}}, nil)
	if err != nil || total(res.Failed) != 2 {
		t.Errorf("got %v, %v: files that pose as disks were taken", res, err)
	}
}

func TestRealDisksOfThisMachineCanBeRead(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t)
	if e, err := os.ReadDir("/sys/block"); err != nil || len(e) == 0 {
		t.Skipf("this machine shows no disks: %v", err)
	}
	m := newMachine(t)
	m.opts.Sys, m.opts.Dev, m.opts.OpenDevice = "/sys", "/dev", nil
	e := &fake{}
	s := newScanner(t, Config{Engine: e, Roots: m.opts})
	res, err := s.Scan(t.Context(), []bridge.ScanObject{{Enabled: true, Type: bridge.ScanDiskBootSectors}}, nil)
	// A sandbox may forbid even root to read its disks: then they count as failed and not as clean.
	denied := len(res.Failed) == 1 && res.Failed[0].Reason == reasonDenied
	if err != nil || res.Found == 0 || len(res.Failed) > 0 && !denied || res.Clean+total(res.Skipped)+total(res.Failed) != res.Found {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestBackupScopeFindsBackupsAndSnapshots(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if got, res := m.scan(bridge.ScanSystemBackupStorage); len(got) != 0 || res.Objects[0].State != ObjectNothing || !res.Complete() {
		t.Errorf("got %v, %v: want nothing to scan", got, res)
	}
	m.file("root/var/backups/dpkg.gz", "x")
	m.file("root/.snapshots/7/snapshot/etc/passwd", "x")
	m.file("snap/lvm/file", "x")
	m.file("mountinfo", "30 1 253:4 / "+m.at("snap")+" ro - ext4 /dev/mapper/s rw\n")
	m.want(bridge.ScanSystemBackupStorage, "root/.snapshots/7/snapshot/etc/passwd", "root/var/backups/dpkg.gz")
	m.file("mountinfo", "30 1 0:44 /@/.snapshots/3/snapshot "+m.at("snap")+" ro - btrfs /dev/sda2 rw\n")
	m.want(bridge.ScanSystemBackupStorage, "root/.snapshots/7/snapshot/etc/passwd", "root/var/backups/dpkg.gz", "snap/lvm/file")
}

func TestEmailScopeFindsSpoolsAndMailFolders(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if _, res := m.scan(bridge.ScanEmail); res.Objects[0].State != ObjectNothing {
		t.Errorf("got %v: want nothing to scan", res)
	}
	m.file("root/var/mail/alice", "From x\n")
	m.link("../mail", "root/var/spool/mail")
	m.file("root/etc/passwd", "alice:x:1:1::/home/alice:/bin/sh\nall:x:2:2::/:/bin/sh\n")
	m.file("root/home/alice/Maildir/new/1", "x")
	m.file("root/home/alice/.thunderbird/p/Inbox", "x")
	m.file("root/home/alice/Documents/letter", "x")
	m.file("root/Maildir/new/1", "x")
	m.want(bridge.ScanEmail, "root/home/alice/.thunderbird/p/Inbox", "root/home/alice/Maildir/new/1", "root/var/mail/alice")
}

func TestDriveScopesTellFixedRemovableAndNetworkDrivesApart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, d := range []string{"fixed", "stick", "usb", "nfs", "tmp", "crypt", "btr", "bound", "with space"} {
		m.file("m/"+d+"/file", "x")
	}
	disk := func(path, removable string) {
		m.file("sys/devices/"+path+"/removable", removable)
	}
	disk("pci/ata1/sda", "0\n")
	m.file("sys/devices/pci/ata1/sda/sda1/partition", "1\n")
	disk("pci/mmc/sdb", "1\n")
	m.file("sys/devices/pci/mmc/sdb/sdb1/partition", "1\n")
	disk("pci/usb1/1-1/sdc", "0\n")
	disk("virtual/dm-0", "0\n")
	m.link("../../../pci/usb1/1-1/sdc", "sys/devices/virtual/dm-0/slaves/sdc")
	m.link("../../devices/pci/ata1/sda/sda1", "sys/dev/block/8:1")
	m.link("../../devices/pci/mmc/sdb/sdb1", "sys/dev/block/8:17")
	m.link("../../devices/pci/usb1/1-1/sdc", "sys/dev/block/8:32")
	m.link("../../devices/virtual/dm-0", "sys/dev/block/253:0")
	m.link("../../devices/pci/ata1/sda/sda1", "sys/class/block/sda1")
	m.file("mountinfo", strings.Join([]string{
		"19 1 8:9 / " + m.at("m/nfs") + " rw - ext4 /dev/sda1 rw",
		"20 1 8:1 / " + m.at("m/fixed") + " rw - ext4 /dev/sda1 rw",
		"21 1 8:1 /folder " + m.at("m/bound") + " rw - ext4 /dev/sda1 rw",
		"22 1 8:17 / " + m.at("m/stick") + " rw shared:1 master:2 - vfat /dev/sdb1 rw",
		"23 1 8:32 / " + m.at("m/usb") + " rw - exfat /dev/sdc rw",
		"24 1 0:50 / " + m.at("m/nfs") + " rw - nfs4 server:/export rw",
		"25 1 0:51 / " + m.at("m/tmp") + " rw - tmpfs tmpfs rw",
		"26 1 253:0 / " + m.at("m/crypt") + " rw - ext4 /dev/mapper/luks rw",
		"27 1 0:52 /sub " + m.at("m/btr") + " rw - btrfs /dev/sda1 rw",
		"28 1 0:5 / " + m.at("m/with\\040space") + " rw - fuse.sshfs u@h: rw",
		"29 1 0:6 / /proc rw - proc proc rw", "",
	}, "\n"))
	m.want(bridge.ScanAllFixedDrives, "m/btr/file", "m/fixed/file")
	m.want(bridge.ScanAllRemovableDrives, "m/crypt/file", "m/stick/file", "m/usb/file")
	m.want(bridge.ScanAllNetworkDrives, "m/nfs/file", "m/with space/file")
	m.file("mountinfo", "")
	for _, kind := range []bridge.ScanType{bridge.ScanAllFixedDrives, bridge.ScanAllRemovableDrives, bridge.ScanAllNetworkDrives} {
		if _, res := m.scan(kind); res.Objects[0].State != ObjectNothing {
			t.Errorf("%s: %v, want nothing to scan", kind, res)
		}
	}
}

func TestModulesOfTheKernelAreFoundByName(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("proc/modules", "nls_utf8 16384 1 - Live 0x0\next4 1 0 - Live 0x0\nelsewhere 1 0 - Live 0x0\n")
	m.file("proc/sys/kernel/osrelease", "6.1-test\n")
	m.link("usr/lib", "root/lib")
	m.file("root/usr/lib/modules/6.1-test/modules.dep", "kernel/nls/nls-utf8.ko.xz:\nkernel/fs/ext4.ko: kernel/lib/crc.ko\nkernel/lib/crc.ko:\n")
	m.file("root/usr/lib/modules/6.1-test/kernel/nls/nls-utf8.ko.xz", "x")
	m.file("root/usr/lib/modules/6.1-test/kernel/fs/ext4.ko", "x")
	m.file("root/usr/lib/modules/6.1-test/kernel/lib/crc.ko", "x")
	m.want(bridge.ScanSystemMemory, "root/usr/lib/modules/6.1-test/kernel/fs/ext4.ko", "root/usr/lib/modules/6.1-test/kernel/nls/nls-utf8.ko.xz")
}

func TestResolveStaysBelowItsRoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("root/usr/bin/dash", "x")
	m.link("usr/bin", "root/bin")
	m.link("/bin/dash", "root/usr/bin/sh")
	m.link("../../../../../../etc/passwd", "root/usr/escape")
	m.link("loop", "root/loop")
	for _, tt := range []struct{ path, want string }{
		{"/bin/sh", "root/usr/bin/dash"},
		{"/bin/../bin/sh", "root/usr/bin/dash"},
		{"/../../bin/sh", "root/usr/bin/dash"},
		{"/", "root"},
	} {
		got, err := resolve(m.at("root"), tt.path)
		if err != nil || got != m.at(tt.want) {
			t.Errorf("%s: got %s, %v, want %s", tt.path, got, err, tt.want)
		}
	}
	for _, path := range []string{"/usr/escape", "/loop", "/gone"} {
		if got, err := resolve(m.at("root"), path); err == nil {
			t.Errorf("%s: got %s", path, got)
		} else if path == "/gone" && !os.IsNotExist(err) {
			t.Errorf("%s: got %v, want %v", path, err, fs.ErrNotExist)
		}
	}
}
