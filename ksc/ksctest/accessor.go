package ksctest

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

const (
	maxAccessors    = 10_000 // of the whole server
	maxLifetime     = 7200   // seconds a result set may ask for
	defaultLifetime = 60     // seconds when none was asked for
	accessorLength  = 22

	maxLifetimeDuration = maxLifetime * time.Second
)

// accessorKind keeps the handles of one class from being used with another.
type accessorKind int

const (
	chunkKind accessorKind = iota
	taskIteratorKind
	hostStatusKind
	historyKind
	hostTasksKind
)

// accessor is a result set or an iterator. It belongs to one session and dies with it.
type accessor struct {
	kind     accessorKind
	owner    *session
	lifetime time.Duration // after the last access
	expires  time.Time
	rows     []row
	fields   []string
	next     int // of iterators: the row that comes next
}

// accessorTable finds accessors by handle.
type accessorTable struct {
	// mu guards the map and the accessors in it.
	mu       sync.Mutex
	byHandle map[string]*accessor
}

func newAccessorTable() *accessorTable {
	return &accessorTable{byHandle: make(map[string]*accessor)}
}

// newHandle returns 22 random letters and digits.
func newHandle() string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var b [accessorLength]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b[:])
}

// open stores a and returns its handle.
func (t *accessorTable) open(a *accessor, now time.Time) (string, error) {
	if a.lifetime == 0 {
		a.lifetime = defaultLifetime * time.Second
	}
	a.expires = now.Add(a.lifetime)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byHandle) >= maxAccessors {
		for handle, old := range t.byHandle {
			if now.After(old.expires) {
				t.forget(handle, old)
			}
		}
	}
	if len(t.byHandle) >= maxAccessors {
		return "", tooMany("result sets")
	}
	handle := newHandle()
	t.byHandle[handle] = a
	a.owner.open.Add(1)
	return handle, nil
}

// with calls use with the accessor behind handle and renews its life; only its owner finds it.
func (t *accessorTable) with(handle string, kind accessorKind, owner *session, now time.Time, use func(*accessor)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.byHandle[handle]
	if a != nil && now.After(a.expires) {
		t.forget(handle, a)
		a = nil
	}
	if a == nil || a.kind != kind || a.owner != owner {
		return notFound("Accessor", handle)
	}
	a.expires = now.Add(a.lifetime)
	use(a)
	return nil
}

// release forgets the accessor behind handle.
func (t *accessorTable) release(handle string, kind accessorKind, owner *session, now time.Time) error {
	return t.with(handle, kind, owner, now, func(a *accessor) { t.forget(handle, a) })
}

// drop forgets everything a session holds.
func (t *accessorTable) drop(owner *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for handle, a := range t.byHandle {
		if a.owner == owner {
			t.forget(handle, a)
		}
	}
}

// forget removes an accessor. The caller holds mu.
func (t *accessorTable) forget(handle string, a *accessor) {
	delete(t.byHandle, handle)
	a.owner.open.Add(-1)
}

// size returns how many accessors are alive.
func (t *accessorTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byHandle)
}

// project returns the asked fields of a row; a value that is missing is left out.
func project(r row, fields []string) params {
	item := make(params, 0, len(fields))
	for _, name := range fields {
		if v, ok := r.value(name); ok {
			item = append(item, member{name, v})
		}
	}
	return item
}

// lifetime reads a lifetime in seconds, at most 7200.
func (a args) lifetime(name string) (time.Duration, error) {
	n, err := a.integer(name)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > maxLifetime {
		return 0, badParameter(name, "0 to 7200 seconds expected")
	}
	return time.Duration(n) * time.Second, nil
}

// sortOrder is one attribute to sort by.
type sortOrder struct {
	name      string
	ascending bool
}

// order reads an array of {"Name":…,"Asc":…}; the elements may be wrapped or bare.
func (a args) order(name string, sch schema) ([]sortOrder, error) {
	raw := a.get(name)
	if raw == nil {
		return nil, nil
	}
	items, ok := parseList(raw)
	if !ok {
		return nil, badParameter(name, "array expected")
	}
	list := make([]sortOrder, 0, len(items))
	for _, item := range items {
		element, ok := parseArgs(nil, item)
		if !ok {
			return nil, badParameter(name, "array of params expected")
		}
		element = unwrap(element)
		field, err := element.str("Name")
		if err != nil {
			return nil, err
		}
		if attr, known := sch[field]; !known || attr.noOrder {
			return nil, badParameter(name, "no order by "+field)
		}
		ascending, err := element.boolean("Asc")
		if err != nil {
			return nil, err
		}
		list = append(list, sortOrder{field, ascending})
	}
	return list, nil
}

// sortRows sorts in place and keeps rows that are equal in their order.
func sortRows(rows []row, by []sortOrder) {
	if len(by) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		for _, o := range by {
			if c := less(a, b, o.name); c != 0 {
				if o.ascending {
					return c
				}
				return -c
			}
		}
		return 0
	})
}

// clampRange returns the part of rows from start on, at most count of them.
func clampRange(rows []row, start, count int) []row {
	start = min(max(start, 0), len(rows))
	count = min(max(count, 0), len(rows)-start)
	return rows[start : start+count]
}

// items projects rows into an array; its elements are written wrapped.
func items(rows []row, fields []string) []any {
	list := make([]any, len(rows))
	for i, r := range rows {
		list[i] = project(r, fields)
	}
	return list
}

func (s *Server) getItemsCount(c *call) error {
	handle, err := c.args.str("strAccessor")
	if err != nil {
		return err
	}
	return s.accessors.with(handle, chunkKind, c.session, s.now(), func(a *accessor) { c.result(len(a.rows)) })
}

func (s *Server) getItemsChunk(c *call) error {
	handle, err := c.args.str("strAccessor")
	if err != nil {
		return err
	}
	start, err := c.args.integer("nStart")
	if err != nil {
		return err
	}
	count, err := c.args.integer("nCount")
	if err != nil {
		return err
	}
	if start < 0 || count < 0 {
		return badParameter("nStart, nCount", "must not be negative")
	}
	var rows []row
	var fields []string
	err = s.accessors.with(handle, chunkKind, c.session, s.now(), func(a *accessor) {
		rows, fields = clampRange(a.rows, start, count), a.fields
	})
	if err != nil {
		return err
	}
	c.result(len(rows), member{"pChunk", params{{"KLCSP_ITERATOR_ARRAY", items(rows, fields)}}})
	return nil
}

func (s *Server) releaseChunk(c *call) error { return s.releaseHandle(c, "strAccessor", chunkKind) }

func (s *Server) releaseHandle(c *call, name string, kind accessorKind) error {
	handle, err := c.args.str(name)
	if err != nil {
		return err
	}
	return s.accessors.release(handle, kind, c.session, s.now())
}
