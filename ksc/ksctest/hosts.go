package ksctest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// hostSchema lists the attributes of support.kaspersky.com/help/KSC/14/KSCAPI/a00514.html that the server keeps.
var hostSchema = schema{
	"KLHST_WKS_HOSTNAME":    {kind: kindString},
	"KLHST_WKS_DN":          {kind: kindString},
	"KLHST_WKS_WINHOSTNAME": {kind: kindString},
	"KLHST_WKS_FQDN":        {kind: kindString},
	"KLHST_WKS_DNSNAME":     {kind: kindString},
	"KLHST_WKS_DNSDOMAIN":   {kind: kindString},
	"KLHST_WKS_IP_LONG":     {kind: kindInt},
	"KLHST_WKS_GROUPID":     {kind: kindInt},
	"KLHST_WKS_STATUS":      {kind: kindInt},
	"KLHST_WKS_STATUS_MASK": {kind: kindInt},
	"KLHST_WKS_EDR_STATUS":  {kind: kindInt},
	"KLHST_INSTANCEID":      {kind: kindString},
}

// value returns an attribute as FindHosts and GetHostInfo give it out.
func (h *Host) value(name string) (any, bool) {
	switch name {
	case "KLHST_WKS_HOSTNAME":
		return h.ID, true
	case "KLHST_WKS_DN":
		return h.DisplayName, h.DisplayName != ""
	case "KLHST_WKS_WINHOSTNAME":
		return h.NetBIOS, h.NetBIOS != ""
	case "KLHST_WKS_FQDN":
		return h.FQDN, h.FQDN != ""
	case "KLHST_WKS_DNSNAME":
		return h.DNSName, h.DNSName != ""
	case "KLHST_WKS_DNSDOMAIN":
		return h.DNSDomain, h.DNSDomain != ""
	case "KLHST_WKS_IP_LONG":
		a, err := netip.ParseAddr(h.IP)
		if err != nil || !a.Is4() {
			return nil, false
		}
		b := a.As4()
		return long(binary.LittleEndian.Uint32(b[:])), true
	case "KLHST_WKS_GROUPID":
		return h.GroupID, true
	case "KLHST_WKS_STATUS":
		return h.Status, true
	case "KLHST_WKS_STATUS_MASK":
		return 0, true
	case "KLHST_WKS_EDR_STATUS":
		return h.EDRStatus, true
	case "KLHST_INSTANCEID":
		return h.ID, true
	default:
		return nil, false
	}
}

// hostTable finds computers by id, without regard to case.
type hostTable struct {
	// mu guards the fields below; the hosts themselves never change.
	mu     sync.RWMutex
	byID   map[string]*Host
	list   []*Host
	groups *groupTable
}

func newHostTable(hosts []Host, groups *groupTable) *hostTable {
	t := &hostTable{byID: make(map[string]*Host, len(hosts)), groups: groups}
	for _, h := range hosts {
		t.add(h)
	}
	return t
}

// add stores a host; one with the same id is replaced.
func (t *hostTable) add(h Host) {
	if h.Group != "" {
		h.GroupID = t.groups.idOf(h.Group)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := strings.ToLower(h.ID)
	if old := t.byID[key]; old != nil {
		t.list = slices.DeleteFunc(t.list, func(other *Host) bool { return other == old })
	}
	t.byID[key] = &h
	t.list = append(t.list, &h)
}

func (t *hostTable) find(id string) *Host {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[strings.ToLower(id)]
}

// search returns the hosts a filter lets through, in the order they were added.
func (t *hostTable) search(keep func(*Host) bool, f filter) []row {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var rows []row
	for _, h := range t.list {
		if keep(h) && (f == nil || f.match(h)) {
			rows = append(rows, h)
		}
	}
	return rows
}

// AddHost makes one more computer known, or replaces the one with the same id.
func (s *Server) AddHost(h Host) error {
	if err := s.cfg.checkHost(&h); err != nil {
		return fmt.Errorf("add host: %w", err)
	}
	s.hosts.add(h)
	return nil
}

// findHosts answers the number of matches and an accessor for them.
// KSC: support.kaspersky.com/help/KSC/14/KSCAPI/a00514.html (HostGroup).
func (s *Server) findHosts(c *call) error {
	fields, err := c.args.fields("vecFieldsToReturn", hostSchema)
	if err != nil {
		return err
	}
	f, err := s.filter(c, "wstrFilter", hostSchema)
	if err != nil {
		return err
	}
	order, err := c.args.order("vecFieldsToOrder", hostSchema)
	if err != nil {
		return err
	}
	extra, err := c.args.object("pParams")
	if err != nil {
		return err
	}
	onlyHere, err := extra.boolean("KLGRP_FIND_FROM_CUR_VS_ONLY")
	if err != nil {
		return err
	}
	rows := s.hosts.search(func(h *Host) bool { return c.session.sees(h, onlyHere) }, f)
	sortRows(rows, order)
	return s.answerRows(c, rows, fields)
}

// sees reports whether a caller on the main server (who sees all unless onlyHere) or on a virtual one sees h.
func (sess *session) sees(h *Host, onlyHere bool) bool {
	return h.VirtualServer == sess.vserver || sess.vserver == "" && !onlyHere
}

// getHostInfo answers the asked attributes of one computer.
func (s *Server) getHostInfo(c *call) error {
	fields, err := c.args.fields("pFields2Return", hostSchema)
	if err != nil {
		return err
	}
	h, err := s.hostArg(c, "strHostName")
	if err != nil {
		return err
	}
	c.result(project(h, fields))
	return nil
}

// getHostTasks answers the handle for HostTasks.* of one computer.
func (s *Server) getHostTasks(c *call) error {
	h, err := s.hostArg(c, "strHostName")
	if err != nil {
		return err
	}
	handle, err := s.accessors.open(&accessor{
		kind: hostTasksKind, owner: c.session, lifetime: maxLifetimeDuration, rows: []row{h},
	}, s.now())
	if err != nil {
		return err
	}
	c.result(handle)
	return nil
}

// hostArg finds the computer an argument names. With lenient hosts a well-formed id is enough.
func (s *Server) hostArg(c *call, name string) (*Host, error) {
	id, err := c.args.str(name)
	if err != nil {
		return nil, err
	}
	h := s.hosts.find(id)
	if h == nil && s.cfg.LenientHosts && wellFormedHostID(id) {
		h = &Host{ID: id, DisplayName: id, VirtualServer: c.session.vserver}
	}
	if h == nil || !c.session.sees(h, false) {
		return nil, notFound("Host", id)
	}
	return h, nil
}
