package kumatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

type event struct {
	id, cluster string
	at          time.Time
	doc         []byte
}

// PutEvent adds a normalised event, a JSON object with ID and Timestamp (epoch milliseconds), to a storage cluster; "" = the
// first. It is answered byte for byte as given.
func (s *Server) PutEvent(cluster string, doc []byte) error {
	var head struct {
		ID        string `json:"ID"`
		Timestamp int64  `json:"Timestamp"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("put an event into mock KUMA: %w", err)
	}
	if head.ID == "" || head.Timestamp == 0 {
		return errors.New("put an event into mock KUMA: it needs ID and Timestamp")
	}
	if cluster == "" {
		cluster = s.cfg.Clusters[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{head.ID, cluster, time.UnixMilli(head.Timestamp), slices.Clone(doc)})
	return nil
}

// searchEvents: support.kaspersky.com/KUMA/3.4/en-US/269922.htm. Of SQL it knows only the search for ids.
func (s *Server) searchEvents(r *Request) answer {
	var in struct {
		Period struct {
			From string `json:"from"`
			To   string `json:"to"`
		} `json:"period"`
		SQL           string `json:"sql"`
		ClusterID     string `json:"clusterID"`
		RawTimestamps bool   `json:"rawTimestamps"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return refusal(http.StatusBadRequest, "cannot parse body", err.Error())
	}
	var ends [2]time.Time
	for i, end := range []struct{ name, text string }{{"period.from", in.Period.From}, {"period.to", in.Period.To}} {
		if end.text == "" {
			return refusal(http.StatusBadRequest, end.name+" required", "")
		}
		var err error
		if ends[i], err = time.Parse(time.RFC3339Nano, end.text); err != nil {
			return refusal(http.StatusBadRequest, "cannot parse "+end.name, err.Error())
		}
	}
	ids, limit, ok := parseSearch(in.SQL)
	if !ok {
		return refusal(http.StatusBadRequest, "cannot parse sql", in.SQL)
	}
	switch {
	case in.ClusterID == "" && len(s.cfg.Clusters) > 1:
		return refusal(http.StatusBadRequest, "clusterID required", "")
	case in.ClusterID == "":
		in.ClusterID = s.cfg.Clusters[0]
	case !slices.Contains(s.cfg.Clusters, in.ClusterID):
		return refusal(http.StatusNotFound, "cluster not found", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	docs := []json.RawMessage{}
	for _, e := range s.events {
		if e.cluster != in.ClusterID || !slices.Contains(ids, e.id) || e.at.Before(ends[0]) || e.at.After(ends[1]) {
			continue
		}
		doc := e.doc
		if !in.RawTimestamps {
			doc = edit(doc, func(fields map[string]json.RawMessage) {
				fields["Timestamp"] = json.RawMessage(`"` + e.at.UTC().Format(time.RFC3339Nano) + `"`)
			})
		}
		if len(docs) < limit {
			docs = append(docs, doc)
		}
	}
	return answer{status: http.StatusOK, body: array(docs)}
}

// parseSearch reads SELECT * FROM events WHERE ID = '…' [OR ID = '…'] [LIMIT n].
func parseSearch(sql string) (ids []string, limit int, ok bool) {
	m := regexp.MustCompile(`^SELECT \* FROM events WHERE (ID = '[^']*'(?: OR ID = '[^']*')*)(?: LIMIT (\d+))?$`).FindStringSubmatch(sql)
	if m == nil {
		return nil, 0, false
	}
	for part := range strings.SplitSeq(m[1], " OR ") {
		ids = append(ids, strings.TrimSuffix(strings.TrimPrefix(part, "ID = '"), "'"))
	}
	limit = pageSize
	if m[2] != "" {
		if _, err := fmt.Sscan(m[2], &limit); err != nil {
			return nil, 0, false
		}
	}
	return ids, limit, true
}

// getClusters: support.kaspersky.com/help/KUMA/3.2/ru-RU/222298.htm.
func (s *Server) getClusters(r *Request) answer {
	from, to, bad, ok := page(r, len(s.cfg.Clusters))
	if !ok {
		return bad
	}
	out := []map[string]string{}
	for i, id := range s.cfg.Clusters[from:to] {
		out = append(out, map[string]string{"id": id, "tenantID": "a0996458-8b25-42e9-a673-d800d6169703", "tenantName": "Main", "name": fmt.Sprintf("storage %d", i+1)})
	}
	return success(out)
}

// getServices lists storages and correlators: kind picks among them.
func (s *Server) getServices(r *Request) answer {
	out := []map[string]string{}
	add := func(kind, field string, ids []string) {
		if want := r.Query["kind"]; len(want) > 0 && !slices.Contains(want, kind) {
			return
		}
		for i, id := range ids {
			out = append(out, map[string]string{"id": fmt.Sprintf("%s-%d", kind, i+1), "kind": kind, field: id, "name": kind, "status": "green"})
		}
	}
	add("storage", "resourceID", s.cfg.Clusters)
	add("correlator", "id", s.cfg.Correlators)
	return success(out)
}
