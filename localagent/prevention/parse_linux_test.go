package prevention

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rawEvent is an event as the kernel writes it, with a pidfd record when pidfd is not 0.
func rawEvent(mask uint64, fd, pid, pidfd int32) []byte {
	ne := binary.NativeEndian
	n := uint32(eventHead)
	if pidfd != 0 {
		n += pidfdRecord
	}
	b := ne.AppendUint32(nil, n)
	b = append(b, eventVersion, 0)
	b = ne.AppendUint16(b, eventHead)
	b = ne.AppendUint64(b, mask)
	b = ne.AppendUint32(ne.AppendUint32(b, uint32(fd)), uint32(pid))
	if pidfd != 0 {
		b = append(b, unix.FAN_EVENT_INFO_TYPE_PIDFD, 0)
		b = ne.AppendUint16(b, pidfdRecord)
		b = ne.AppendUint32(b, uint32(pidfd))
	}
	return b
}

func TestEventsAreReadAsTheKernelWritesThem(t *testing.T) {
	t.Parallel()
	b := slices.Concat(rawEvent(unix.FAN_OPEN_EXEC_PERM, 5, 100, 9), rawEvent(unix.FAN_OPEN_PERM, 6, 101, 0), rawEvent(unix.FAN_Q_OVERFLOW, -1, 0, -1))
	var got []event
	if err := parseEvents(b, func(e event) { got = append(got, e) }); err != nil {
		t.Fatal(err)
	}
	want := []event{{unix.FAN_OPEN_EXEC_PERM, 5, 100, 9}, {unix.FAN_OPEN_PERM, 6, 101, -1}, {unix.FAN_Q_OVERFLOW, -1, 0, -1}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for n := 1; n < len(b); n++ {
		whole := n == 32 || n == 56
		if err := parseEvents(b[:n], func(event) {}); (err == nil) != whole {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add(slices.Concat(rawEvent(unix.FAN_OPEN_EXEC_PERM, 5, 100, 9), rawEvent(unix.FAN_OPEN_PERM, 6, 101, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = parseEvents(b, func(event) { n++ })
		if n*eventHead > len(b) {
			t.Fatalf("%d events in %d bytes", n, len(b))
		}
	})
}

func TestFileSystemsAreWatchedUnlessNobodyExecutesFromThemOrTheyMayNotAnswer(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"proc": invisible, "cgroup2": invisible, "nfs4": "server", "fuse.sshfs": "any user", "fuse": "any user", "fuseblk": "any user",
		"ext4": "", "tmpfs": "", "overlay": "", "devtmpfs": "", "squashfs": "", "ramfs": "", "iso9660": "",
	} {
		if got := unwatched(kind); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestStatOfAProcessIsReadWhateverItsName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]uint64{
		"7 (sh) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2":             {3, 4711},
		"7 (a) S 9 (b) c) R 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2\n": {3, 4711},
		"7 (sh) S 3": {}, "": {}, ")": {},
	} {
		ppid, start, err := parseStat([]byte(text))
		if (err == nil) != (want[0] != 0) || uint64(ppid) != want[0] || start != want[1] {
			t.Errorf("%q: %d %d %v", text, ppid, start, err)
		}
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("7 (sh) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseStat(b) })
}
