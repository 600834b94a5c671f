package ksctest

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Incident is one incident as the server keeps it.
type Incident struct {
	// ID is KLINCDT_ID, counted from 1.
	ID int
	// Severity is KLINCDT_SEVERITY as sent.
	Severity int
	// Added is KLINCDT_ADDED: UTC, whole seconds, chosen by the client.
	Added time.Time
	// Body is KLINCDT_BODY, byte for byte as the JSON string held it.
	Body string
	// Host is KLHST_WKS_HOSTNAME as sent.
	Host string
	// Handled is KLINCDT_IS_HANDLED.
	Handled bool
	// User is KLHSTUSER_ID, 0 when missing.
	User int
	// Stored is the server's time of AddIncident.
	Stored time.Time
	// Updates counts the UpdateIncident calls that reached the incident.
	Updates int
	// Problem says why the background connection made no task of the body; empty = it did, or has not looked yet.
	Problem string

	// host is the computer, nil when it is not among the known ones.
	host *Host
}

// incidentSchema lists the attributes of support.kaspersky.com/help/KSC/15/KSCAPI/a00092.html.
var incidentSchema = schema{
	"KLINCDT_ID":                {kind: kindInt},
	"KLINCDT_SEVERITY":          {kind: kindInt},
	"KLINCDT_ADDED":             {kind: kindTime},
	"KLINCDT_BODY":              {kind: kindText, noOrder: true},
	"KLINCDT_IS_HANDLED":        {kind: kindInt},
	"KLHST_WKS_HOSTNAME":        {kind: kindString, noOrder: true},
	"KLINCDT_TYPE":              {kind: kindString, noFilter: true, noOrder: true},
	"KLINCDT_TYPE_DISPLAY_NAME": {kind: kindString, noFilter: true, noOrder: true},
	"GNRL_EXTRA_PARAMS":         {kind: kindNone, noFilter: true, noOrder: true},
	"KLHSTUSER_ID":              {kind: kindInt, noFilter: true, noOrder: true},
	"KLHSTUSER_DN":              {kind: kindString, noFilter: true, noOrder: true},
	"KLHSTUSER_PRINCIPAL":       {kind: kindString, noFilter: true, noOrder: true},
	"KLHSTUSER_SAMNAME":         {kind: kindString, noFilter: true, noOrder: true},
	"KLHST_WKS_LID":             {kind: kindInt, noFilter: true, noOrder: true},
	"KLHST_WKS_WINHOSTNAME":     {kind: kindString, noFilter: true, noOrder: true},
	"KLHST_WKS_DN":              {kind: kindString, noFilter: true, noOrder: true},
	"KLHST_WKS_GROUPID":         {kind: kindInt, noFilter: true, noOrder: true},
	"KLHST_WKS_GROUPID_GP":      {kind: kindInt, noFilter: true, noOrder: true},
}

// value returns an attribute as FindIncidents gives it out.
func (i *Incident) value(name string) (any, bool) {
	switch name {
	case "KLINCDT_ID":
		return i.ID, true
	case "KLINCDT_SEVERITY":
		return i.Severity, true
	case "KLINCDT_ADDED":
		return i.Added, true
	case "KLINCDT_BODY":
		return i.Body, true
	case "KLINCDT_IS_HANDLED":
		return i.Handled, true
	case "KLHST_WKS_HOSTNAME":
		return i.Host, true
	case "KLINCDT_TYPE", "KLINCDT_TYPE_DISPLAY_NAME":
		return "", true
	case "KLHSTUSER_ID":
		return i.User, i.User != 0
	case "KLHST_WKS_WINHOSTNAME", "KLHST_WKS_DN", "KLHST_WKS_GROUPID":
		if i.host != nil {
			return i.host.value(name)
		}
	}
	return nil, false
}

// incidentStore keeps incidents in order of their ids. Records are never changed in place:
// an update replaces one, so a result set keeps what it saw.
type incidentStore struct {
	keep int // 0 = all

	// mu guards the fields below.
	mu      sync.RWMutex
	records []*Incident // records[i] has the id first+i; nil = deleted
	first   int
	live    int
	byHost  map[string]*hostIncidents // by lower-case id
}

// hostIncidents finds the incidents of a host by the second of KLINCDT_ADDED.
type hostIncidents struct {
	bySecond map[int64][]int
	size     int
}

func newIncidentStore(keep int) *incidentStore {
	return &incidentStore{keep: keep, first: 1, byHost: make(map[string]*hostIncidents)}
}

// add stores i and gives it an id.
func (st *incidentStore) add(i *Incident) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	i.ID = st.first + len(st.records)
	st.records = append(st.records, i)
	st.live++
	st.index(i)
	if st.keep > 0 && len(st.records) > st.keep {
		if old := st.records[0]; old != nil {
			st.unindex(old)
			st.live--
		}
		st.records[0] = nil
		st.records = st.records[1:]
		st.first++
	}
	return i.ID
}

// get returns the incident, or nil.
func (st *incidentStore) get(id int) *Incident {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.at(id)
}

// change replaces an incident by what edit made of a copy; it is false when there is none.
func (st *incidentStore) change(id int, edit func(*Incident)) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	old := st.at(id)
	if old == nil {
		return false
	}
	changed := *old
	edit(&changed)
	if !changed.Added.Equal(old.Added) {
		st.unindex(old)
		st.index(&changed)
	}
	st.records[id-st.first] = &changed
	return true
}

// remove deletes an incident; it is false when there is none.
func (st *incidentStore) remove(id int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	old := st.at(id)
	if old == nil {
		return false
	}
	st.unindex(old)
	st.records[id-st.first] = nil
	st.live--
	return true
}

// all returns every incident, lowest id first.
func (st *incidentStore) all() []*Incident {
	st.mu.RLock()
	defer st.mu.RUnlock()
	list := make([]*Incident, 0, st.live)
	for _, i := range st.records {
		if i != nil {
			list = append(list, i)
		}
	}
	return list
}

// search returns the incidents that a filter lets through, lowest id first. A filter that names a host,
// and better still seconds, looks only at what the index gives.
func (st *incidentStore) search(f filter) []row {
	candidates := st.candidates(boundsOf(f))
	rows := make([]row, 0, min(len(candidates), 64))
	for _, i := range candidates {
		if f == nil || f.match(i) {
			rows = append(rows, i)
		}
	}
	return rows
}

func (st *incidentStore) candidates(b bounds) []*Incident {
	switch {
	case b.id != 0:
		if i := st.get(b.id); i != nil {
			return []*Incident{i}
		}
		return nil
	case b.host != "":
		return st.ofHost(b)
	default:
		return st.all()
	}
}

func (st *incidentStore) ofHost(b bounds) []*Incident {
	st.mu.RLock()
	defer st.mu.RUnlock()
	index := st.byHost[b.host]
	if index == nil {
		return nil
	}
	var ids []int
	if b.from <= b.to && b.to-b.from < int64(len(index.bySecond)) {
		for second := b.from; second <= b.to; second++ {
			ids = append(ids, index.bySecond[second]...)
		}
	} else {
		for second, list := range index.bySecond {
			if second >= b.from && second <= b.to {
				ids = append(ids, list...)
			}
		}
	}
	slices.Sort(ids)
	list := make([]*Incident, 0, len(ids))
	for _, id := range ids {
		list = append(list, st.at(id))
	}
	return list
}

// at returns the record with an id, or nil. The caller holds mu.
func (st *incidentStore) at(id int) *Incident {
	if n := id - st.first; n >= 0 && n < len(st.records) {
		return st.records[n]
	}
	return nil
}

// index makes i findable by host and second. The caller holds mu.
func (st *incidentStore) index(i *Incident) {
	key := strings.ToLower(i.Host)
	index := st.byHost[key]
	if index == nil {
		index = &hostIncidents{bySecond: make(map[int64][]int, 1)}
		st.byHost[key] = index
	}
	second := i.Added.Unix()
	index.bySecond[second] = append(index.bySecond[second], i.ID)
	index.size++
}

// unindex undoes index. The caller holds mu.
func (st *incidentStore) unindex(i *Incident) {
	key := strings.ToLower(i.Host)
	index := st.byHost[key]
	second := i.Added.Unix()
	list := index.bySecond[second]
	if at := slices.Index(list, i.ID); at >= 0 {
		list = slices.Delete(list, at, at+1)
		index.size--
	}
	if len(list) == 0 {
		delete(index.bySecond, second)
	} else {
		index.bySecond[second] = list
	}
	if index.size == 0 {
		delete(st.byHost, key)
	}
}
