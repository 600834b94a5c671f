package sensor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// maxTold bounds the connections that are remembered as told; beyond, they may be told again.
const maxTold = 65536

// connection is one connection of this machine.
type connection struct {
	local, remote netip.AddrPort
	protocol      string // tcp or udp
	inode         uint64 // of the socket; 0 when it has no process any more
}

// watchConnections compares connections with the list until ctx ends.
func (s *Sensor) watchConnections(ctx context.Context) {
	told := map[connection]bool{}
	for {
		found, err := listConnections(func(a netip.Addr) bool { _, listed := s.listed.find(a); return listed })
		s.listedFailed(ctx, err)
		told = s.tellConnections(ctx, found, told, err == nil)
		if errors.Is(err, errors.ErrUnsupported) || !wait(ctx, s.cfg.Connections) {
			return
		}
	}
}

// tellConnections makes an alert of every connection that was not told, and returns which are. all says that no other ones are there.
func (s *Sensor) tellConnections(ctx context.Context, found []connection, told map[connection]bool, all bool) map[connection]bool {
	still := make(map[connection]bool, len(found))
	var fresh []connection
	for _, c := range found {
		key := c
		key.inode = 0 // that goes away when the process ends before the connection does
		if !told[key] && !still[key] {
			fresh = append(fresh, c)
		}
		if len(still) < maxTold {
			still[key] = true
		}
	}
	for key := range told {
		if !all && len(still) < maxTold {
			still[key] = true
		}
	}
	if len(fresh) == 0 {
		return still
	}
	wanted := map[uint64]bool{}
	for _, c := range fresh {
		if c.inode != 0 {
			wanted[c.inode] = true
		}
	}
	owners, looked := socketOwners(wanted), time.Now()
	for _, c := range fresh {
		if !s.connected(ctx, c, owners[c.inode], looked) {
			key := c
			key.inode = 0
			delete(still, key)
		}
	}
	return still
}

// connected makes the alert of a connection that was found at looked; pid is 0 when the process is not known. It answers false when
// there are too many alerts: the connection waits for its turn.
func (s *Sensor) connected(ctx context.Context, c connection, pid int, looked time.Time) bool {
	indicator, _ := s.listed.find(c.remote.Addr())
	if pid != 0 && (pid == s.cfg.Self || s.cfg.Ignore(pid)) {
		return true
	}
	now := s.cfg.Now()
	like := likeness{rule: RuleIndicator, parent: pid, child: c.remote.Addr().String(), extra: c.protocol}
	if s.damper.alike(like, now) {
		s.count.connections.Add(1)
		s.leaveOut(RuleIndicator)
		return true
	}
	left, ok := s.damper.admit(like, now)
	if !ok {
		return false
	}
	s.count.connections.Add(1)
	x := sighting{opened: looked, document: document{
		Level: LevelHigh, Title: "Connection to a listed address", Rule: RuleIndicator, Host: s.cfg.Host, Timestamp: stamp(now),
		Details: "process: not known, it has ended or is in another process namespace", Suppressed: left, Method: "sock_diag",
	}}
	x.connection(c, indicator)
	who := "a process that is not known"
	if pid != 0 {
		who = s.owner(&x, pid, c.inode)
	}
	x.Description = fmt.Sprintf("%s has a connection to %s port %d (%s), listed as %s", who, x.SourceIP, x.RemotePort, x.Protocol, x.Indicator)
	x.ID = alertID("connection", s.cfg.Host, s.boot, strconv.Itoa(x.PID), strconv.FormatUint(x.StartTicks, 10),
		c.local.String(), c.remote.String(), c.protocol, x.Timestamp)
	s.digest(ctx, &x)
	s.finish(x)
	return true
}

// owner fills in the process and returns what it is called.
func (s *Sensor) owner(x *sighting, pid int, inode uint64) string {
	before := x.document
	st, err := s.world.stat(pid)
	if err != nil {
		return "a process that has ended"
	}
	x.PID, x.ActionablePID, x.StartTicks, x.PPID = pid, pid, st.start, st.ppid
	if st.user {
		x.UID = new(int64(st.uid))
	}
	im := &image{comm: st.name}
	if path, deleted, err := s.world.image(pid); err == nil {
		var line []byte
		im = imageOf(path, deleted, func() []string {
			line, _ = s.world.commandLine(pid, maxCommandLine)
			return arguments(line)
		})
		x.Exe, x.ExeDeleted, x.Script = pathShown(path), deleted, clean(im.script, maxShownPath)
	}
	if line, err := s.world.commandLine(pid, maxCommandLine); err == nil {
		x.Cmdline = lineShown(line)
	}
	x.Details = "command line: " + x.Cmdline
	if path, _, err := s.world.image(st.ppid); err == nil {
		x.ParentExe = pathShown(path)
	}
	x.file, _ = s.world.open(pid)
	// All of that was read by number: only a process that still is the same and has the socket is the one.
	if again, err := s.world.stat(pid); err != nil || again.start != st.start || !ownsSocket(pid, inode) {
		x.drop()
		x.document = before
		return "a process that has ended"
	}
	for up := st.ppid; up > 0 && len(x.Parents) < maxShownParents; {
		next, err := s.world.stat(up)
		if err != nil {
			break
		}
		path, _, _ := s.world.image(up)
		x.Parents = append(x.Parents, parent{PID: up, Exe: pathShown(path)})
		up = next.ppid
	}
	return shown(im.shown()) + " (PID " + strconv.Itoa(pid) + ")"
}

// listedFailed notes whether connections can be listed, and logs when that changes.
func (s *Sensor) listedFailed(ctx context.Context, err error) {
	s.state.mu.Lock()
	before := s.state.flowErr
	s.state.flowErr = err
	s.state.mu.Unlock()
	if err != nil && before == nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the sensor cannot list connections, listed addresses are not noticed", "err", err)
	}
}
