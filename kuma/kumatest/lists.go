package kumatest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

type listKey struct{ correlator, name string }

// list is an active list: records by their key.
type list struct {
	keys []string // in the order they came
	rows map[string]map[string]string
}

// ListRows returns the records of an active list (its name or id), oldest key first, each a copy.
func (s *Server) ListRows(correlator, name string) []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[listKey{correlator, name}]
	if l == nil {
		return nil
	}
	var out []map[string]string
	for _, k := range l.keys {
		out = append(out, maps.Clone(l.rows[k]))
	}
	return out
}

// importList: support.kaspersky.com/kuma/3.0.3/269915. Of the three formats it knows csv.
func (s *Server) importList(r *Request) answer {
	q := r.Query
	name := q.Get("activeListName")
	if name == "" {
		name = q.Get("activeListID")
	}
	switch {
	case q.Get("correlatorID") == "":
		return refusal(http.StatusBadRequest, "query parameter required", "correlatorID")
	case name == "":
		return refusal(http.StatusBadRequest, "one of query parameters required", "activeListID, activeListName")
	case q.Get("format") == "":
		return refusal(http.StatusBadRequest, "query parameter required", "format")
	case !strings.EqualFold(q.Get("format"), "csv"):
		return refusal(http.StatusBadRequest, "invalid query parameter value", "format")
	case q.Get("keyField") == "":
		return refusal(http.StatusBadRequest, "query parameter required", "keyField")
	case s.cfg.Correlators != nil && !slices.Contains(s.cfg.Correlators, q.Get("correlatorID")):
		return refusal(http.StatusNotFound, "service not found", "")
	}
	records, err := csv.NewReader(bytes.NewReader(r.Body)).ReadAll()
	if err != nil || len(records) == 0 {
		return refusal(http.StatusBadRequest, "cannot parse body", fmt.Sprint(err))
	}
	key := slices.Index(records[0], q.Get("keyField"))
	if key < 0 {
		return refusal(http.StatusBadRequest, "key field is not in the header", q.Get("keyField"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := listKey{q.Get("correlatorID"), name}
	l := s.lists[id]
	if l == nil || q.Has("clear") {
		l = &list{rows: map[string]map[string]string{}}
		s.lists[id] = l
	}
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, field := range records[0] {
			row[field] = record[i]
		}
		if _, known := l.rows[record[key]]; !known {
			l.keys = append(l.keys, record[key])
		}
		l.rows[record[key]] = row
	}
	return noContent()
}

type asset struct {
	id, fqdn string
	ips      []string
	doc      []byte
}

// PutAsset adds an asset: a JSON object with id, fqdn (text or list) and ipAddresses.
func (s *Server) PutAsset(doc []byte) error {
	var head struct {
		ID          string          `json:"id"`
		FQDN        json.RawMessage `json:"fqdn"`
		IPAddresses []string        `json:"ipAddresses"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("put an asset into mock KUMA: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assets = append(s.assets, asset{head.ID, strings.Trim(string(head.FQDN), `[]"`), head.IPAddresses, slices.Clone(doc)})
	return nil
}

// getAssets: support.kaspersky.com/help/KUMA/3.0.2/en-US/222256.htm. fqdn and ip are regular expressions.
func (s *Server) getAssets(r *Request) answer {
	var patterns [2]*regexp.Regexp
	for i, name := range []string{"fqdn", "ip"} {
		var err error
		if patterns[i], err = regexp.Compile("(?i)" + r.Query.Get(name)); err != nil {
			return refusal(http.StatusBadRequest, "invalid query parameter value", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	docs := []json.RawMessage{}
	for _, a := range s.assets {
		switch {
		case r.Query.Has("id") && !slices.Contains(r.Query["id"], a.id):
		case r.Query.Has("fqdn") && !patterns[0].MatchString(a.fqdn):
		case r.Query.Has("ip") && !slices.ContainsFunc(a.ips, patterns[1].MatchString):
		default:
			docs = append(docs, a.doc)
		}
	}
	from, to, bad, ok := page(r, len(docs))
	if !ok {
		return bad
	}
	return answer{status: http.StatusOK, body: array(docs[from:to])}
}
