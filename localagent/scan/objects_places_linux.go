package scan

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxHomes bounds the home folders looked into, maxAccounts the bytes of /etc/passwd read.
const (
	maxHomes    = 10_000
	maxAccounts = 8 << 20
)

// objectsOfBackups offers /var/backups and the snapshots that are mounted or lie where snapper and Timeshift keep them.
func (f *finder) objectsOfBackups(ctx context.Context) error {
	places := []string{"/var/backups", "/timeshift", "/run/timeshift"}
	for _, keeper := range []string{"/.snapshots", "/home/.snapshots"} {
		// Each snapshot of snapper is a filesystem of its own, which a walk of the folder would not enter.
		names, _ := os.ReadDir(filepath.Join(f.r.s.cfg.Roots.Root, keeper))
		for _, n := range names {
			places = append(places, keeper+"/"+n.Name()+"/snapshot")
		}
	}
	found, err := f.places(ctx, places)
	if err != nil {
		return err
	}
	mounts, err := readMounts(f.r.s.cfg.Roots.MountInfo)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if !isSnapshot(m) {
			continue
		}
		found = true
		if err := f.drive(ctx, m); err != nil {
			return err
		}
	}
	if !found {
		return errNothing
	}
	return nil
}

// objectsOfEmail offers mail spools, and the mail folders of every account.
func (f *finder) objectsOfEmail(ctx context.Context) error {
	places := []string{"/var/mail", "/var/spool/mail", "/var/vmail"}
	for _, home := range f.homes() {
		for _, box := range []string{
			"Maildir", "mail", "Mail", "mbox", ".thunderbird", ".local/share/evolution/mail", ".local/share/local-mail",
			"snap/thunderbird/common/.thunderbird", ".var/app/org.mozilla.Thunderbird/.thunderbird",
		} {
			places = append(places, home+"/"+box)
		}
	}
	found, err := f.places(ctx, places)
	if err == nil && !found {
		return errNothing
	}
	return err
}

// places walks those that are there; what is wrong with one does not keep it from the others.
func (f *finder) places(ctx context.Context, list []string) (found bool, err error) {
	var errs []error
	for _, p := range list {
		if cause := context.Cause(ctx); cause != nil {
			return found, cause
		}
		ok, err := f.place(ctx, p)
		found = found || ok
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// homes returns the home folders of the accounts of this machine (passwd(5)), without those that are the whole machine.
func (f *finder) homes() []string {
	var homes []string
	passwd, err := os.Open(filepath.Join(f.r.s.cfg.Roots.Root, "etc/passwd"))
	if err != nil {
		return nil
	}
	defer func() { _ = passwd.Close() }()
	text, err := io.ReadAll(io.LimitReader(passwd, maxAccounts))
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		if len(fields) != 7 || len(homes) >= maxHomes {
			continue
		}
		home := filepath.Clean(fields[5])
		if !strings.HasPrefix(home, "/") || home == "/" || home == "/nonexistent" || seen[home] {
			continue
		}
		seen[home] = true
		homes = append(homes, home)
	}
	return homes
}
