package ksctest

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// addIncident stores an incident and answers its id.
// KSC: support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html (HostGroup).
func (s *Server) addIncident(c *call) error {
	var room [8]arg
	raw := c.args.get("pData")
	data, ok := parseArgs(room[:0], raw)
	if !ok {
		return badParameter("pData", "params expected")
	}
	i := &Incident{Stored: s.now()}
	present, err := i.read(data, true)
	if err != nil {
		return err
	}
	for n, name := range [...]string{"KLINCDT_SEVERITY", "KLINCDT_ADDED", "KLINCDT_BODY", "KLHST_WKS_HOSTNAME"} {
		if present&(1<<n) == 0 {
			return badParameter(name, "required")
		}
	}
	i.host = s.hosts.find(i.Host)
	if i.host == nil && (!s.cfg.LenientHosts || !wellFormedHostID(i.Host)) {
		return notFound("Host", i.Host)
	}
	if c.session.vserver != "" && (i.host == nil || i.host.VirtualServer != c.session.vserver) {
		return notFound("Host", i.Host)
	}
	id := s.incidents.add(i)
	s.count.incidents.Add(1)
	s.feed.publish(i, s.now())
	if s.cfg.BackgroundConnection {
		s.tasks.expect(id, i.Stored)
	}
	if s.cfg.OnIncident != nil {
		s.cfg.OnIncident(*i)
	}
	c.result(id)
	return nil
}

// updateIncident changes what a client may change; read-only keys are ignored.
// KSC: support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html (HostGroup).
func (s *Server) updateIncident(c *call) error {
	id, err := c.args.integer("nId")
	if err != nil {
		return err
	}
	var room [8]arg
	data, ok := parseArgs(room[:0], c.args.get("pData"))
	if !ok {
		return badParameter("pData", "params expected")
	}
	if s.cfg.StrictUpdate && data.get("KLHST_WKS_HOSTNAME") == nil {
		return badParameter("KLHST_WKS_HOSTNAME", "required")
	}
	var probe Incident // a bad value must leave the incident as it was
	if _, err := probe.read(data, false); err != nil {
		return err
	}
	found := s.incidents.change(id, func(i *Incident) {
		host := i.Host
		_, _ = i.read(data, false)
		i.Host = host
		i.Updates++
	})
	if !found {
		return incidentNotFound(id)
	}
	return nil
}

// deleteIncident removes an incident.
// KSC: support.kaspersky.com/help/KSC/15.1/KSCAPI/a00529.html (HostGroup).
func (s *Server) deleteIncident(c *call) error {
	id, err := c.args.integer("nId")
	if err != nil {
		return err
	}
	if !s.incidents.remove(id) {
		return incidentNotFound(id)
	}
	return nil
}

// findIncidents answers the number of matches and an accessor for them.
// KSC: support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html (HostGroup).
func (s *Server) findIncidents(c *call) error {
	fields, err := c.args.fields("pFieldsToReturn", incidentSchema)
	if err != nil {
		return err
	}
	f, err := s.filter(c, "strFilter", incidentSchema)
	if err != nil {
		return err
	}
	order, err := c.args.order("pFieldsToOrder", incidentSchema)
	if err != nil {
		return err
	}
	rows := s.incidents.search(f)
	if vserver, seen := c.session.vserver, s.now().Add(-s.cfg.SearchLag); vserver != "" || s.cfg.SearchLag > 0 {
		rows = slices.DeleteFunc(rows, func(r row) bool {
			i := r.(*Incident)
			return vserver != "" && (i.host == nil || i.host.VirtualServer != vserver) || i.Stored.After(seen)
		})
	}
	sortRows(rows, order)
	return s.answerRows(c, rows, fields)
}

// read takes the attributes a client may set. The result has a bit for each of SEVERITY, ADDED, BODY
// and HOSTNAME that was there, in this order.
func (i *Incident) read(data args, adding bool) (present int, err error) {
	for n := range data {
		name, raw := data[n].name, data[n].value
		ok := true
		switch string(name) {
		case "KLINCDT_SEVERITY":
			i.Severity, ok = parseInt(raw)
			present |= 1
		case "KLINCDT_ADDED":
			i.Added, ok = datetime(raw)
			present |= 2
		case "KLINCDT_BODY":
			i.Body, ok = unquote(raw)
			present |= 4
		case "KLHST_WKS_HOSTNAME":
			i.Host, ok = unquote(raw)
			present |= 8
		case "KLINCDT_IS_HANDLED":
			i.Handled = raw[0] == 't'
			ok = i.Handled || bytes.Equal(raw, []byte("false"))
		case "KLHSTUSER_ID":
			if adding {
				i.User, ok = parseInt(raw)
			}
		}
		if !ok {
			return 0, badParameter(string(name), "wrong type")
		}
	}
	return present, nil
}

func incidentNotFound(id int) error { return notFound("Incident", strconv.Itoa(id)) }

// filter reads a filter argument; missing, null or empty lets everything through.
func (s *Server) filter(c *call, name string, sch schema) (filter, error) {
	expression, err := c.args.str(name)
	if err != nil {
		return nil, err
	}
	f, err := parseFilter(expression, sch, s.now())
	if err != nil {
		return nil, badParameter(name, err.Error())
	}
	return f, nil
}

// fields reads the attributes to return; for hosts any KLHST_… is allowed, since products add theirs.
func (a args) fields(name string, sch schema) ([]string, error) {
	fields, err := a.names(name)
	if err != nil {
		return nil, err
	}
	_, ofHost := sch["KLHST_INSTANCEID"]
	for _, field := range fields {
		if _, ok := sch[field]; !ok && (!ofHost || !strings.HasPrefix(field, "KLHST_")) {
			return nil, badParameter(name, "unknown attribute "+field)
		}
	}
	return fields, nil
}

// answerRows opens a result set for rows.
func (s *Server) answerRows(c *call, rows []row, fields []string) error {
	lifetime, err := c.args.lifetime("lMaxLifeTime")
	if err != nil {
		return err
	}
	handle, err := s.accessors.open(&accessor{
		kind: chunkKind, owner: c.session, lifetime: lifetime, rows: rows, fields: fields,
	}, s.now())
	if err != nil {
		return err
	}
	c.result(len(rows), member{"strAccessor", handle})
	return nil
}
