package prevention

import (
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// maxKnown bounds the remembered digests: some 200 bytes each.
const maxKnown = 65536

// ruleset is the rules arranged for looking up. It does not change.
type ruleset struct {
	rules []Rule
	// exact and fold find rules with a path: by its spelling, and by its folded form.
	exact, fold map[string][]int
	// digest finds rules without a path by MD5 or SHA-256.
	digest map[string]int
	// id finds a rule by its id.
	id map[string]int
	// md5 and sha256 say that there are rules without a path by such a digest: every file has to be hashed.
	md5, sha256 bool
}

func newRuleset(rules []Rule) *ruleset {
	s := &ruleset{rules: rules, exact: make(map[string][]int), fold: make(map[string][]int), digest: make(map[string]int), id: make(map[string]int, len(rules))}
	for i := range rules {
		s.id[rules[i].ID] = i
		switch r := &rules[i]; {
		case r.Path != "" && r.CaseSensitive:
			s.exact[r.Path] = append(s.exact[r.Path], i)
		case r.Path != "":
			key := folded(r.Path)
			s.fold[key] = append(s.fold[key], i)
		default:
			s.digest[r.digest()] = i
			s.md5 = s.md5 || r.MD5 != ""
			s.sha256 = s.sha256 || r.SHA256 != ""
		}
	}
	return s
}

// paths reports whether there are rules with a path.
func (s *ruleset) paths() bool { return len(s.exact)+len(s.fold) > 0 }

// named appends the rules whose path is name.
func (s *ruleset) named(into []int, name string) []int {
	into = append(into, s.exact[name]...)
	if len(s.fold) > 0 {
		into = append(into, s.fold[folded(name)]...)
	}
	return into
}

// find returns the rule that is about a file with these digests, when the rules of named have its path; -1 = none. Sums that are
// needed and not known are reported, and then none is found yet.
func (s *ruleset) find(named []int, d files.Digests) (rule int, md5, sha256 bool) {
	md5, sha256 = s.md5, s.sha256
	for _, i := range named {
		switch r := &s.rules[i]; {
		case r.digest() == "", r.MD5 != "" && r.MD5 == d.MD5, r.SHA256 != "" && r.SHA256 == d.SHA256:
			return i, false, false
		default:
			md5, sha256 = md5 || r.MD5 != "", sha256 || r.SHA256 != ""
		}
	}
	for _, sum := range []string{d.SHA256, d.MD5} {
		if sum == "" {
			continue
		}
		if i, ok := s.digest[sum]; ok {
			return i, false, false
		}
	}
	return -1, md5 && d.MD5 == "", sha256 && d.SHA256 == ""
}

// folders returns the folders of rules with a path, and the rules in each.
func (s *ruleset) folders() map[string][]int {
	found := make(map[string][]int)
	for i := range s.rules {
		if name := s.rules[i].Path; name != "" {
			found[path.Dir(name)] = append(found[path.Dir(name)], i)
		}
	}
	return found
}

// digests remembers what files hash to. Its zero value is ready.
type digests struct {
	// mu guards known.
	mu    sync.Mutex
	known map[files.Key]files.Digests
}

func (c *digests) get(k files.Key) files.Digests {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[k]
}

// put adds sums to those known. When there is no room some others are forgotten: they are hashed again when they are needed.
func (c *digests) put(k files.Key, d files.Digests) files.Digests {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[files.Key]files.Digests)
	}
	old, ok := c.known[k]
	if !ok && len(c.known) >= maxKnown {
		gone := 0
		for other := range c.known {
			delete(c.known, other)
			if gone++; gone >= maxKnown/64 {
				break
			}
		}
	}
	if d.MD5 == "" {
		d.MD5 = old.MD5
	}
	if d.SHA256 == "" {
		d.SHA256 = old.SHA256
	}
	c.known[k] = d
	return d
}

func (c *digests) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}

// seen is what the kernel says about an open file without asking a server or a disk.
type seen struct {
	files.Key
	// born is when the file was made, zero where the file system does not keep it. Inode numbers are given away again.
	born    unix.StatxTimestamp
	regular bool
	// rooted says that only root can write to it: root owns it, and neither group, others nor an access control list may
	// (whose mask stands where the rights of the group do: acl(5)).
	rooted bool
}

// made names a file for good.
type made struct {
	files.ID

	born unix.StatxTimestamp
}

func (s *seen) made() made { return made{s.ID, s.born} }

func look(fd int) (seen, error) {
	var st unix.Statx_t
	const what = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, what, &st); err != nil {
		return seen{}, err
	}
	return seen{
		Key: files.Key{
			ID: files.ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}, Size: int64(st.Size), //nolint:gosec // sizes fit
			Mtime: unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
			Ctime: unix.Timespec{Sec: st.Ctime.Sec, Nsec: int64(st.Ctime.Nsec)},
		},
		born:    st.Btime,
		regular: st.Mode&unix.S_IFMT == unix.S_IFREG,
		rooted:  st.Uid == 0 && st.Mode&0o022 == 0,
	}, nil
}
