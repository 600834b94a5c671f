package prevention

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// eventBuffer bounds how many events are taken at once, because the kernel opens one or two descriptors for each, and denies
	// the execution when it cannot (fanotify_user.c, copy_event_to_user): 170 events of 24 bytes, 128 with a pidfd.
	eventBuffer = 4096

	eventHead    = unix.FAN_EVENT_METADATA_LEN
	eventVersion = 3 // FANOTIFY_METADATA_VERSION
	pidfdRecord  = 8 // struct fanotify_event_info_pidfd
)

// group is a fanotify group (fanotify(7)).
type group struct {
	fd int
	// asks is set when the kernel waits for answers; else it only tells.
	asks bool
	// exec and open are what is watched: executions, and with inode marks every open as well.
	exec, open uint64
}

// event is one question of the kernel, or one notice. Whoever has it closes fd and pidfd.
type event struct {
	mask uint64
	fd   int
	pid  int
	// pidfd is negative when the kernel gave none.
	pidfd int
}

// newGroup makes a group that asks (Block) or only tells (LogOnly).
func newGroup(mode Mode) (*group, error) {
	g := &group{exec: unix.FAN_OPEN_EXEC, open: unix.FAN_OPEN | unix.FAN_OPEN_EXEC}
	flags := uint(unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_MARKS)
	if mode == Block {
		// Without a limit nothing is let go unseen; the processes that wait are the limit. Notices have the kernel's limit.
		flags |= unix.FAN_UNLIMITED_QUEUE
		g.asks, g.exec, g.open = true, unix.FAN_OPEN_EXEC_PERM, unix.FAN_OPEN_PERM|unix.FAN_OPEN_EXEC_PERM
	}
	const eventFlags = unix.O_RDONLY | unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NOATIME
	fd, err := unix.FanotifyInit(flags|unix.FAN_REPORT_PIDFD, eventFlags)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.15
		fd, err = unix.FanotifyInit(flags, eventFlags)
	}
	if err != nil {
		return nil, os.NewSyscallError("fanotify_init", err)
	}
	g.fd = fd
	return g, nil
}

func (g *group) close() { _ = unix.Close(g.fd) }

// markFilesystem watches the executions of the file system that path is on.
func (g *group) markFilesystem(path string) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, g.exec, unix.AT_FDCWD, path)
}

// markFile watches every open of the open file, by whatever name.
func (g *group) markFile(fd int) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD, g.open, fd, "")
}

// ignore makes the kernel ask no more about the executions of the open file until it is written to. It does not pin the inode
// where the kernel can do without (Linux 5.19).
func (g *group) ignore(fd int) error {
	const flags = unix.FAN_MARK_ADD | unix.FAN_MARK_IGNORED_MASK
	err := unix.FanotifyMark(g.fd, flags|unix.FAN_MARK_EVICTABLE, g.exec, fd, "")
	if errors.Is(err, unix.EINVAL) {
		err = unix.FanotifyMark(g.fd, flags, g.exec, fd, "")
	}
	return err
}

// heed takes ignore back for one file, heedAll for all. Marks of file systems stay.
func (g *group) heed(fd int) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_REMOVE|unix.FAN_MARK_IGNORED_MASK, g.exec, fd, "")
}

func (g *group) heedAll() error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_FLUSH, 0, unix.AT_FDCWD, "/")
}

// answer lets the process that waits behind the event descriptor go on, or fail with EPERM.
func (g *group) answer(fd int, allow bool) error {
	response := uint32(unix.FAN_DENY)
	if allow {
		response = unix.FAN_ALLOW
	}
	var b [8]byte
	binary.NativeEndian.PutUint32(b[:4], uint32(fd)) //nolint:gosec // descriptors are small and not negative
	binary.NativeEndian.PutUint32(b[4:], response)
	for {
		_, err := unix.Write(g.fd, b[:])
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// read hands what is there to visit, at most one buffer, and reports whether there may be more.
func (g *group) read(buf []byte, visit func(event)) (more bool, err error) {
	n, err := unix.Read(g.fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("read fanotify", err)
	}
	return n > 0, parseEvents(buf[:n], visit)
}

// parseEvents reads what the kernel wrote (fanotify(7)). Event descriptors are what the kernel says they are; nothing is opened here.
func parseEvents(b []byte, visit func(event)) error {
	for len(b) > 0 {
		if len(b) < eventHead {
			return fmt.Errorf("fanotify: %d bytes are no event", len(b))
		}
		length := int(binary.NativeEndian.Uint32(b))
		head := int(binary.NativeEndian.Uint16(b[6:]))
		if b[4] != eventVersion || head < eventHead || length < head || length > len(b) {
			return fmt.Errorf("fanotify: an event of version %d with %d of %d bytes", b[4], length, len(b))
		}
		visit(event{
			mask:  binary.NativeEndian.Uint64(b[8:]),
			fd:    int(int32(binary.NativeEndian.Uint32(b[16:]))), //nolint:gosec // it is signed
			pid:   int(int32(binary.NativeEndian.Uint32(b[20:]))), //nolint:gosec // it is signed
			pidfd: parsePidfd(b[head:length]),
		})
		b = b[length:]
	}
	return nil
}

func parsePidfd(info []byte) int {
	for len(info) >= 4 {
		length := int(binary.NativeEndian.Uint16(info[2:]))
		if length < 4 || length > len(info) {
			return -1
		}
		if info[0] == unix.FAN_EVENT_INFO_TYPE_PIDFD && length >= pidfdRecord {
			return int(int32(binary.NativeEndian.Uint32(info[4:]))) //nolint:gosec // it is signed
		}
		info = info[length:]
	}
	return -1
}
