package scan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tooLarge is the size of a file no clamd looks into: MaxFileSize cannot be more than 2 GiB (clamd.conf(5)).
const tooLarge = 5 << 30

// sendFile passes the descriptor along with the command: the daemon needs no right to the path, and looks at this very file.
func (s *session) sendFile(f *os.File, _ int64) error {
	conn, ok := s.conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("pass a file: %w", errors.ErrUnsupported)
	}
	// The command, its NUL, and the byte the descriptor comes with.
	_, _, err := conn.WriteMsgUnix([]byte("zFILDES\x00\x00"), unix.UnixRights(int(f.Fd())), nil)
	return err
}

// reportsLimits reports whether clamd says that it skips what is above its limits (AlertExceedsMax), which is off by default:
// then such a file is answered with OK.
func (c *clamd) reportsLimits(ctx context.Context) (bool, error) {
	if c.network != "unix" {
		return false, nil
	}
	fd, err := unix.MemfdCreate("edr-bridge-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "probe")
	defer func() { _ = f.Close() }()
	// A hole: it takes no memory, and clamd refuses it by its size alone.
	if err := unix.Ftruncate(fd, tooLarge); err != nil {
		return false, fmt.Errorf("make a large file in memory: %w", err)
	}
	s, err := c.dial(ctx, 0)
	if err != nil {
		return false, err
	}
	v, err := c.ask(ctx, s, f, FileInfo{Path: "probe", Size: tooLarge})
	return v.State == Skipped && strings.HasPrefix(v.Reason, "clamd: a limit"), err
}
