package ioc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// account is a line of passwd(5).
type account struct {
	name, full, home, shell string
	uid, gid                uint32
}

// readUsers reads the local users and groups. Users of directories (LDAP, NIS) are asked for by nobody: their servers may hang.
func readUsers(h host) ([]account, map[string][]string, error) {
	lines, err := h.lines("/etc/passwd")
	if err != nil {
		return nil, nil, err
	}
	var accounts []account
	for _, l := range lines {
		f := strings.Split(l, ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		uid, errUID := strconv.ParseUint(f[2], 10, 32)
		gid, errGID := strconv.ParseUint(f[3], 10, 32)
		if errUID == nil && errGID == nil {
			accounts = append(accounts, account{f[0], f[4], f[5], f[6], uint32(uid), uint32(gid)})
		}
	}
	lines, err = h.lines("/etc/group")
	if err != nil {
		return accounts, nil, err
	}
	groups, byGID := map[string][]string{}, map[uint32]string{}
	for _, l := range lines {
		f := strings.Split(l, ":")
		if len(f) != 4 {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			byGID[uint32(gid)] = f[0]
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if m != "" {
				groups[m] = append(groups[m], f[0])
			}
		}
	}
	for _, a := range accounts {
		if g := byGID[a.gid]; g != "" {
			groups[a.name] = append(groups[a.name], g)
		}
	}
	return accounts, groups, nil
}

func collectUsers(ctx context.Context, h host, o *object, emit func(*object)) error {
	accounts, groups, err := readUsers(h)
	if err != nil {
		return errCollector("list the users", err)
	}
	shadow, errShadow := readShadow(h)
	logins, errLogins := lastLogins(h, accounts)
	for _, a := range accounts {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		o.text(userName, a.name)
		full, _, _ := strings.Cut(a.full, ",")
		o.text(userFullName, full)
		o.text(userUID, uidText(a.uid))
		o.text(userHome, a.home)
		o.text(userGroup, groups[a.name]...)
		o.moment(userLastLogin, logins[a.name])
		if s, known := shadow[a.name]; known {
			o.truth(userLocked, strings.HasPrefix(s.password, "!"))
			o.truth(userPassword, s.password != "")
			o.truth(userDisabled, s.expires > 0 && !h.now().Before(time.Unix(s.expires*86400, 0)))
		}
		emit(o)
	}
	return errors.Join(errCollector("read the password table", errShadow), errCollector("read the last logins", errLogins))
}

// secret is what shadow(5) says of a user: whether the password is locked, never the password; expires is in days since 1970.
type secret struct {
	password string
	expires  int64
}

func readShadow(h host) (map[string]secret, error) {
	lines, err := h.lines("/etc/shadow")
	table := map[string]secret{}
	for _, l := range lines {
		f := strings.Split(l, ":")
		if len(f) < 8 {
			continue
		}
		days, _ := strconv.ParseInt(f[7], 10, 32)
		// Only whether it is locked, or there, is kept.
		table[f[0]] = secret{f[1][:min(1, len(f[1]))], days}
	}
	return table, err
}

const (
	// lastlogSize is sizeof(struct lastlog) of bits/utmp.h: time 4 bytes, line 32, host 256. The file has one at the place of each uid.
	lastlogSize = 292
	// utmpSize is sizeof(struct utmp) of utmp(5) on Linux: type 2 bytes (and 2 unused), pid 4, line 32, id 4, user 32, host 256,
	// exit 4, session 4, seconds 4, microseconds 4, and more.
	utmpSize    = 384
	utmpUser    = 44
	utmpUserLen = 32
	utmpSeconds = 340
	utmpLogin   = 7 // USER_PROCESS
	// maxWtmp is how much of wtmp is read from its end.
	maxWtmp = 16 << 20
)

// lastLogins takes the later of what lastlog and wtmp say.
func lastLogins(h host, accounts []account) (map[string]time.Time, error) {
	logins := map[string]time.Time{}
	later := func(user string, seconds uint32) {
		if at := time.Unix(int64(seconds), 0); seconds != 0 && at.After(logins[user]) {
			logins[user] = at
		}
	}
	log, err := openTable(h.path("/var/log/lastlog"))
	if err == nil {
		for _, a := range accounts {
			var b [lastlogSize]byte
			if _, err := log.ReadAt(b[:], int64(a.uid)*lastlogSize); err == nil {
				later(a.name, binary.NativeEndian.Uint32(b[:]))
			}
		}
		_ = log.Close()
	}
	tail, errTail := readTail(h.path("/var/log/wtmp"), maxWtmp)
	for ; len(tail) >= utmpSize; tail = tail[utmpSize:] {
		if binary.NativeEndian.Uint16(tail) == utmpLogin {
			user, _, _ := strings.Cut(string(tail[utmpUser:utmpUser+utmpUserLen]), "\x00")
			later(user, binary.NativeEndian.Uint32(tail[utmpSeconds:]))
		}
	}
	return logins, errors.Join(missing(err), missing(errTail))
}

// readTail reads whole records from the end of a file, limit bytes at most.
func readTail(name string, limit int64) ([]byte, error) {
	f, err := openTable(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, st.Size()-limit) / utmpSize * utmpSize
	return io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
}

// missing makes a file that does not exist no error: many machines have none.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
