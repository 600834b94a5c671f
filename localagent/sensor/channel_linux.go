package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// channel is one socket and what was read from it last.
type channel struct {
	file *os.File
	conn syscall.RawConn
	port uint32
	buf  []byte
	// deadline is until when a read waits.
	deadline time.Time
	// queue are events that were read and not asked for, oldest first.
	queue []event
}

func openChannel(ctx context.Context, buffer int, mask uint32) (*channel, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("open a connector socket: %w", err)
	}
	c := &channel{file: os.NewFile(uintptr(fd), "process events"), buf: make([]byte, maxMessage)}
	c.conn, err = c.file.SyscallConn()
	if err == nil {
		err = c.subscribe(ctx, fd, buffer, mask)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *channel) subscribe(ctx context.Context, fd, buffer int, mask uint32) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer); err != nil {
		// Without CAP_NET_ADMIN the system's limit holds (socket(7)); an overrun is noticed.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return fmt.Errorf("set the receive buffer: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: connectorIndex}); err != nil {
		return fmt.Errorf("join the process events: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("name of the connector socket: %w", err)
	}
	if nl, ok := sa.(*unix.SockaddrNetlink); ok {
		c.port = nl.Pid
	}
	if err := c.send(opListen, 0); err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("no process events in this network namespace, the kernel sends them in the initial one only: %w", err)
		}
		return fmt.Errorf("subscribe to process events: %w", err)
	}
	if err := c.answered(ctx); err != nil {
		return err
	}
	if err := c.send(opListen, mask); err != nil {
		return fmt.Errorf("subscribe to process events: %w", err)
	}
	program := socketFilter(mask)
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: uint16(len(program)), Filter: &program[0], //nolint:gosec // 15
	}); err != nil {
		return fmt.Errorf("attach the event filter: %w", err)
	}
	return nil
}

// unwatch takes the socket out of the poller of Go, which would wake for each of its events although nobody waits for them. From then
// on only what is there can be read.
func (c *channel) unwatch() error {
	var (
		fd  int
		err error
	)
	controlErr := c.conn.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err := errors.Join(err, controlErr); err != nil {
		return fmt.Errorf("take the connector socket over: %w", err)
	}
	_ = c.file.Close()
	err = unix.SetNonblock(fd, false) // a blocking one is not watched
	c.file = os.NewFile(uintptr(fd), "process events")
	c.conn, controlErr = c.file.SyscallConn()
	return errors.Join(err, controlErr)
}

func (c *channel) send(op, mask uint32) error {
	var err error
	controlErr := c.conn.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), subscription(op, mask, c.port), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	return errors.Join(err, controlErr)
}

// answered gives the calling thread the name it has, and waits for the event of that. In another process or user
// namespace the kernel ignores a subscription without a word, and only that event tells.
func (c *channel) answered(ctx context.Context) error {
	thread, err := renameThread()
	if err != nil {
		return err
	}
	for {
		err := c.read(ctx, answerTime)
		switch {
		case errors.Is(err, errIdle):
			return errors.New("the kernel sends no process events here: this is not the initial process and user namespace, " +
				"or the kernel has no CONFIG_PROC_EVENTS")
		case err != nil && !errors.Is(err, errOverrun):
			return err
		}
		for _, e := range c.queue {
			if e.kind == eventComm && e.thread == thread {
				c.queue = c.queue[:0]
				return nil
			}
		}
		c.queue = c.queue[:0]
	}
}

// renameThread gives the calling thread the name it has, and returns its number.
func renameThread() (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var name [16]byte
	if err := unix.Prctl(unix.PR_GET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil { //nolint:gosec // prctl(2) fills 16 bytes
		return 0, fmt.Errorf("name of this thread: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil { //nolint:gosec // prctl(2) reads 16 bytes
		return 0, fmt.Errorf("name this thread as it is called: %w", err)
	}
	return unix.Gettid(), nil
}

// read waits up to pause for a datagram and appends its events to the queue. It returns errIdle when there is none, and
// errOverrun when events were dropped.
func (c *channel) read(ctx context.Context, pause time.Duration) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if now := time.Now(); pause > 0 && c.deadline.Sub(now) < pause/2 {
		// To set it for each event would cost more than to wait for a moment less.
		c.deadline = now.Add(pause)
		if err := c.file.SetReadDeadline(c.deadline); err != nil {
			return fmt.Errorf("read process events: %w", err)
		}
	}
	var (
		n, from int
		errno   unix.Errno
	)
	receive := func(fd uintptr) bool {
		n, from, errno = receiveNow(int(fd), c.buf)
		return pause == 0 || errno != unix.EAGAIN
	}
	var err error
	if pause == 0 {
		err = c.conn.Control(func(fd uintptr) { receive(fd) })
	} else {
		err = c.conn.Read(receive)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), err == nil && (errno == unix.EAGAIN || errno == unix.EINTR):
		return errIdle
	case err != nil:
		return fmt.Errorf("read process events: %w", err)
	case errno == unix.ENOBUFS:
		return errOverrun
	case errno != 0:
		return fmt.Errorf("read process events: %w", os.NewSyscallError("recvfrom", errno))
	}
	// Programs with the right to may send to the group as well: only the kernel has port 0 (netlink(7)).
	if from == 0 {
		eachEvent(c.buf[:n], func(e event) { c.queue = append(c.queue, e) })
	}
	return nil
}

// receiveNow reads a datagram without waiting and returns its size and the port of its sender. A call that cannot block needs not be
// announced to the scheduler of Go, which would wake its monitor for each one and double what an event costs.
func receiveNow(fd int, buf []byte) (n, port int, errno unix.Errno) {
	var from unix.RawSockaddrNetlink
	size := uint32(unix.SizeofSockaddrNetlink)
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), //nolint:gosec // recvfrom(2)
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size))) //nolint:gosec // recvfrom(2)
	if errno != 0 {
		return 0, 0, errno
	}
	return int(r), int(from.Pid), 0
}

func (c *channel) close() {
	if c.conn != nil {
		// Kernels before 6.6 count listeners and do not notice that one has gone.
		_ = c.send(opIgnore, 0)
	}
	_ = c.file.Close()
}
