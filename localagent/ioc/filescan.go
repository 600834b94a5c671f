package ioc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// batch is how many files go from the walk to a worker at once: handing over one by one would cost more than looking.
const batch = 128

// hashTries is how often a file is read that keeps changing.
const hashTries = 3

// Why something was not looked at, or not hashed.
const (
	whyLink      = "links are not followed"
	whyOther     = "FIFOs, sockets and devices are not opened"
	whyDenied    = "it vanished or may not be read"
	whyDevice    = "it is on another filesystem than its root"
	whyExcluded  = "it is excluded"
	whyKeptOut   = "it is excluded, or is a mount, which is walked by itself or seen through another one"
	whyTooLarge  = "not hashed: it is larger than max_file"
	whyBudget    = "not hashed: max_bytes is used up"
	whyChanged   = "not hashed: it changed while it was read"
	whyUnread    = "not hashed: it could not be opened or read"
	whySwapped   = "not hashed: another file took its name"
	whyNotThere  = "the root does not exist"
	whyRootLink  = "the root is, or is reached through, a link: name where it leads"
	whyRootOther = "the root is neither a folder nor a regular file"
	whyRoot      = "the root could not be looked at"
)

// Why a scan stopped before its end.
const stoppedFiles = "max_files is reached, or folders nest too deep"

// places are where files are looked for.
type places struct {
	roots []string
	left  []leftOut
	// covered are folders that other roots show, or that must not even be looked at.
	covered map[string]bool
}

// leftOut is a place that is not walked.
type leftOut struct{ path, why string }

// collectFiles walks all roots once.
func (s *scan) collectFiles(ctx context.Context) error {
	where, err := rootsOf(s.cfg)
	if err != nil {
		return errCollector("list the filesystems", err)
	}
	for _, k := range where.left {
		s.skip(k.why, 1, k.path)
	}
	need := s.needs()
	batches := make(chan []files.Entry, s.cfg.Workers)
	var wg sync.WaitGroup
	for range s.cfg.Workers {
		wg.Go(func() {
			s.quiet()
			w := s.fileWorker(need)
			for b := range batches {
				for i := range b {
					if context.Cause(ctx) == nil {
						w.look(ctx, b[i])
					}
				}
			}
		})
	}
	// The walk reads folders, so it is as quiet as the workers; a thread that is quiet stays so and must end with it.
	wg.Go(func() {
		defer close(batches)
		s.quiet()
		s.walk(ctx, where, batches)
	})
	wg.Wait()
	if n := len(where.roots) - s.walked; (n > 0 || s.walked == 0) && context.Cause(ctx) == nil && s.result.Stopped == "" && (s.walked == 0 || s.cfg.Scope == ScopeCustom) {
		return fmt.Errorf("%d of %d folders could not be looked at", n, len(where.roots))
	}
	return nil
}

func (s *scan) quiet() {
	if !s.cfg.Eager {
		idle()
	}
}

// walk sends the files below the roots to the workers.
func (s *scan) walk(ctx context.Context, where places, to chan<- []files.Entry) {
	left := s.cfg.MaxFiles
	var full []files.Entry
	send := func() error {
		if len(full) == 0 {
			return nil
		}
		select {
		case to <- full:
			full = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, root := range where.roots {
		if context.Cause(ctx) != nil {
			return
		}
		if left <= 0 {
			s.result.Stopped = stoppedFiles
			return
		}
		names := 0
		stats, err := files.Walk(ctx, root, files.WalkConfig{Recursive: true, MaxEntries: left, SkipDir: func(path string) bool {
			names++
			return where.covered[path] || s.cfg.excluded(path)
		}}, func(e files.Entry) error {
			names++
			if full == nil {
				full = make([]files.Entry, 0, batch)
			}
			if full = append(full, e); len(full) < batch {
				return nil
			}
			return send()
		})
		if sent := send(); err == nil {
			err = sent
		}
		left -= names + stats.Links + stats.Others
		if context.Cause(ctx) != nil {
			err = nil
		}
		s.account(root, stats, err)
	}
}

// account writes down how the walk of one root went.
func (s *scan) account(root string, stats files.WalkStats, err error) {
	s.folders.Add(int64(stats.Dirs))
	s.skip(whyLink, int64(stats.Links), "")
	s.skip(whyOther, int64(stats.Others), "")
	s.skip(whyDenied, int64(stats.Denied), "")
	s.skip(whyDevice, int64(stats.OtherDevices), "")
	s.skip(whyKeptOut, int64(stats.Skipped), "")
	if stats.Truncated {
		s.result.Stopped = stoppedFiles
	}
	switch {
	case err == nil:
		s.walked++
	case errors.Is(err, fs.ErrNotExist):
		s.skip(whyNotThere, 1, root)
	case errors.Is(err, files.ErrLink):
		s.skip(whyRootLink, 1, root)
	case errors.Is(err, files.ErrNotRegular), errors.Is(err, files.ErrPseudo):
		s.skip(whyRootOther, 1, root)
	default:
		s.skip(whyRoot, 1, root)
	}
}

// fileNeeds is what the terms about files need to know of one.
type fileNeeds struct {
	ix *index
	// fields says which of them some term asks for.
	fields [fileSHA256 + 1]bool
	// always are the digests every file needs, of the digests of each document.
	always algorithms
	of     []algorithms
}

func (s *scan) needs() fileNeeds {
	n := fileNeeds{ix: s.q.indexes[KindFile], of: make([]algorithms, len(s.q.documents))}
	for at := range n.fields {
		n.fields[at] = n.ix.needs(at)
	}
	c := s.judge.clerk(KindFile)
	for i := range s.q.documents {
		d := &s.q.documents[i]
		d.late.each(func(t int) { n.of[i] |= algorithmOf(s.q.predicates[d.terms[t].predicate].shape) })
		if d.late != nil && c.possible(int32(i), d.late) {
			n.always |= n.of[i]
		}
	}
	return n
}

// fileWorker looks at one file after the other.
type fileWorker struct {
	s     *scan
	need  fileNeeds
	clerk *clerk
	o     *object
	users users
	read  reader
}

func (s *scan) fileWorker(need fileNeeds) *fileWorker {
	return &fileWorker{s: s, need: need, clerk: s.judge.clerk(KindFile), o: newObject(KindFile), users: usersHere(), read: newReader()}
}

// look judges one file: by what the walk saw of it, and by its digests only if they may decide.
func (w *fileWorker) look(ctx context.Context, e files.Entry) {
	w.s.files.Add(1)
	if w.s.cfg.excluded(e.Path) {
		w.s.skip(whyExcluded, 1, e.Path)
		return
	}
	w.s.objects.Add(1)
	st := e.Stat()
	w.describe(e.Path, st, &w.need.fields)
	w.clerk.look(w.need.ix.early, w.o)
	want := w.need.always
	for _, doc := range w.clerk.touched {
		if more := w.need.of[doc]; more&^want != 0 && w.clerk.possible(doc, w.s.q.documents[doc].late) {
			want |= more
		}
	}
	f := &opened{w: w, e: e, st: st}
	defer f.close()
	if want != 0 {
		f.hash(ctx, want)
		w.clerk.look(w.need.ix.late, w.o)
	}
	var r *Record
	w.clerk.settle(func() *Record {
		if r == nil {
			r = f.record(ctx)
		}
		return r
	})
	w.o.clear()
}

// describe fills in what the walk saw; nil = all fields.
func (w *fileWorker) describe(path string, st files.Stat, only *[fileSHA256 + 1]bool) {
	o, want := w.o, func(field int) bool { return only == nil || only[field] }
	name := filepath.Base(path)
	if want(fileName) {
		o.text(fileName, name)
	}
	if want(fileFullPath) {
		o.text(fileFullPath, path)
	}
	if want(fileFolder) {
		o.text(fileFolder, filepath.Dir(path))
	}
	if want(fileExtension) {
		o.text(fileExtension, strings.TrimPrefix(filepath.Ext(name), "."))
	}
	if want(fileSize) {
		o.number(fileSize, st.Bytes)
	}
	if want(fileCreated) {
		o.moment(fileCreated, st.Created)
	}
	if want(fileModified) {
		o.moment(fileModified, st.Modified)
	}
	if want(fileAccessed) {
		o.moment(fileAccessed, st.Accessed)
	}
	if want(fileChanged) {
		o.moment(fileChanged, st.Changed)
	}
	if want(fileUser) {
		o.text(fileUser, w.users.owner(st))
	}
	if want(fileUID) {
		o.text(fileUID, w.users.number(st))
	}
	if want(fileInode) && st.Ino != 0 {
		o.number(fileInode, int64(st.Ino)) //nolint:gosec // shown and compared as a number, whatever it is
	}
}

// opened is a file that is opened when it has to be read, and at most once.
type opened struct {
	w      *fileWorker
	e      files.Entry
	st     files.Stat
	f      *os.File
	failed bool
	known  digests
}

func (f *opened) close() {
	if f.f != nil {
		_ = f.f.Close()
	}
}

// hash makes the digests known and gives them to the object; when that is not possible it says so and they stay unknown.
func (f *opened) hash(ctx context.Context, want algorithms) {
	s := f.w.s
	if f.failed || f.known.have&want == want {
		return
	}
	why := ""
	switch {
	case f.st.Bytes > s.cfg.MaxFile:
		why = whyTooLarge
	case s.bytes.Load()+f.st.Bytes > s.cfg.MaxBytes:
		why = whyBudget
	default:
		why = f.digest(ctx, want&^f.known.have)
	}
	if why != "" {
		f.failed = true
		if context.Cause(ctx) == nil {
			s.skip(why, 1, f.e.Path)
		}
		return
	}
	for _, d := range []struct {
		field int
		sum   string
	}{{fileMD5, f.known.md5}, {fileSHA1, f.known.sha1}, {fileSHA256, f.known.sha256}} {
		f.w.o.values[d.field] = f.w.o.values[d.field][:0]
		f.w.o.text(d.field, d.sum)
	}
}

func (f *opened) digest(ctx context.Context, want algorithms) (why string) {
	if f.f == nil {
		var err error
		if f.f, err = f.e.Open(); err != nil {
			f.f = nil
			if errors.Is(err, files.ErrSwapped) {
				return whySwapped
			}
			return whyUnread
		}
	}
	for try := 1; ; try++ {
		st, n, err := f.w.read.hash(ctx, f.f, want, f.w.s.cfg.MaxFile, &f.known)
		f.w.s.bytes.Add(n)
		switch {
		case errors.Is(err, errChanged) && try < hashTries && f.known.have&^want == 0:
		case errors.Is(err, errChanged), err == nil && f.known.have&^want != 0 && !sameContent(f.st, st):
			// What was hashed before was hashed of other content.
			return whyChanged
		case err != nil:
			return whyUnread
		default:
			f.w.s.hashed.Add(1)
			f.st = st
			return ""
		}
	}
}

// record writes the file down with all that is known of it.
func (f *opened) record(ctx context.Context) *Record {
	f.hash(ctx, useMD5|useSHA256)
	w := f.w
	for at := range w.need.fields {
		if at < fileMD5 {
			w.o.values[at] = w.o.values[at][:0]
		}
	}
	w.describe(f.e.Path, f.st, nil)
	r := newRecord(w.o)
	r.target = &Target{
		Path: Text(f.e.Path), Device: f.st.Dev, Inode: f.st.Ino, Size: f.st.Bytes, Modified: f.st.Modified.UTC(),
		MD5: f.known.md5, SHA256: f.known.sha256,
	}
	return r
}

// uidText is a number of a user as text.
func uidText(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }
