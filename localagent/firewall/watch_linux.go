package firewall

import (
	"context"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watchAgain is how long after a failure the kernel is asked for notifications again; looking every second goes on meanwhile.
const watchAgain = 5 * time.Second

// watch nudges when somebody changes the packet filter, until ctx ends.
func (w *Firewall) watch(ctx context.Context, wake chan<- struct{}) {
	for ctx.Err() == nil {
		if err := listen(ctx, wake); err != nil && ctx.Err() == nil {
			w.log.Debug("no notifications of the packet filter", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// listen hears what the kernel tells about its packet filter. Lost messages are a change like any other.
func listen(ctx context.Context, wake chan<- struct{}) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	for {
		if _, err := c.Receive(); err != nil && !isOverrun(err) {
			return err
		}
		nudge(wake)
	}
}
