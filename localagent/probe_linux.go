package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/firewall"
)

// Probe looks for what the agent needs from the machine and answers for each. It changes nothing but a loopback
// connection it makes for itself, takes a few milliseconds, and stops early when ctx ends.
func (a *Agent) Probe(ctx context.Context) []Capability {
	var found []Capability
	for _, p := range []struct {
		name, without string
		look          func(context.Context) (string, error)
	}{
		{"root", "only own processes can be ended and nothing blocked", probeRoot},
		{"pidfd", "no process is ended: a pid alone is never acted on", probePidfd},
		{"images", "processes of other users cannot be identified", probeImages},
		{"nftables", "blockAddress does not work", firewall.ProbeTables},
		{"isolation", "isolateHost does not work", firewall.ProbeIsolation},
		{"sock_destroy", "connections of a blocked address are not cut, they run into the filter", firewall.ProbeCutting},
		{"openat2", "paths of orders are refused: links on the way could not be told", probeOpenat2},
		{"children", "descendants are found by looking at all processes, which is slower", probeChildren},
		{"cgroups", "process trees are frozen and killed one by one, and programs have a session but no control group", probeGroups},
		{"fanotify", "preventExecution does not work", a.guard.Probe},
		{"engine", "onDemandScan does not work", a.scans.Probe},
	} {
		if context.Cause(ctx) != nil {
			break
		}
		detail, err := p.look(ctx)
		if err != nil {
			detail = fmt.Sprintf("%v: %s", err, p.without)
		}
		found = append(found, Capability{Name: p.name, OK: err == nil, Detail: detail})
	}
	return found
}

func probeRoot(context.Context) (string, error) {
	if uid := os.Geteuid(); uid != 0 {
		return "", fmt.Errorf("runs as user %d; root or CAP_KILL, CAP_SYS_PTRACE and CAP_NET_ADMIN are needed", uid)
	}
	return "runs as root", nil
}

func probeOpenat2(context.Context) (string, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return "", fmt.Errorf("openat2: %w", err)
	}
	return "files are opened without following links", unix.Close(fd)
}

func probeChildren(context.Context) (string, error) {
	name := fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())
	if _, err := os.ReadFile(name); err != nil { //nolint:gosec // the name is fixed but for our own number
		return "", fmt.Errorf("CONFIG_PROC_CHILDREN: %w", err)
	}
	return "the kernel lists children", nil
}

func probeGroups(context.Context) (string, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.unified {
			return "control groups of version 2 are at " + m.point, nil
		}
	}
	return "", errors.New("no control groups of version 2 are mounted")
}

func probePidfd(context.Context) (string, error) {
	p, err := pin(os.Getpid())
	if err != nil {
		return "", err
	}
	defer p.close()
	return fmt.Sprintf("pidfd_open and pidfd_send_signal work; this agent started at tick %d", p.start), nil
}

func probeImages(context.Context) (string, error) {
	if _, err := os.Readlink("/proc/1/exe"); err != nil {
		return "", fmt.Errorf("image of process 1: %w", err)
	}
	return "images of all users can be read", nil
}
