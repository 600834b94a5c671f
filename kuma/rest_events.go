package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	restWindow   = 5 * time.Minute // around the timestamp of an event
	restLookBack = 24 * time.Hour  // when there is none
	restMaxFound = 250             // clusters that are searched
)

// EventQuery names events.
type EventQuery struct {
	// IDs are UUIDs and nothing else, 1 to 100: they go into SQL.
	IDs []string
	// Around is the Timestamp of the events, Window how far from it they are looked for on both sides; 0 = 5 min. Without Around
	// it is the last 24 hours.
	Around time.Time
	Window time.Duration
	// Cluster is the id of a storage cluster; "" = the only one.
	Cluster string
}

// Events returns the documents of events by their ids, in no particular order; those that are not there are left out.
// Timestamps in them are epoch milliseconds.
//
// KUMA: POST events, support.kaspersky.com/KUMA/3.4/en-US/269922.htm.
func (c *Client) Events(ctx context.Context, q EventQuery) ([][]byte, error) {
	body, err := q.encode(c.cfg.Now())
	if err != nil {
		return nil, err
	}
	answer, err := c.call(ctx, restRequest{method: http.MethodPost, path: restEvents, contentType: "application/json", body: body})
	if err != nil {
		return nil, err
	}
	raw, err := restDocuments(restEvents, answer)
	if err != nil {
		return nil, err
	}
	docs := make([][]byte, 0, len(raw))
	for _, d := range raw {
		docs = append(docs, d)
	}
	return docs, nil
}

func (q EventQuery) encode(now time.Time) ([]byte, error) {
	if len(q.IDs) == 0 || len(q.IDs) > restMaxIDs {
		return nil, restArgument("events: 1 to %d ids in one request, not %d", restMaxIDs, len(q.IDs))
	}
	conditions := make([]string, 0, len(q.IDs))
	for _, id := range q.IDs {
		if !restUUID(id) {
			return nil, restArgument("events: id %.60q is not a UUID", id)
		}
		conditions = append(conditions, "ID = '"+id+"'")
	}
	if q.Cluster != "" && !restUUID(q.Cluster) {
		return nil, restArgument("events: cluster %.60q is not a UUID", q.Cluster)
	}
	window := q.Window
	if window <= 0 {
		window = restWindow
	}
	from, to := q.Around.Add(-window), q.Around.Add(window)
	if q.Around.IsZero() {
		from, to = now.Add(-restLookBack), now.Add(window)
	}
	type period struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	return json.Marshal(struct {
		Period        period `json:"period"`
		SQL           string `json:"sql"`
		ClusterID     string `json:"clusterID,omitempty"`
		RawTimestamps bool   `json:"rawTimestamps"`
		EmptyFields   bool   `json:"emptyFields"`
	}{
		period{restTime(from), restTime(to)},
		fmt.Sprintf("SELECT * FROM events WHERE %s LIMIT %d", strings.Join(conditions, " OR "), len(q.IDs)), q.Cluster, true, false,
	})
}

// Cluster is a storage cluster.
type Cluster struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Clusters returns the first 250 storage clusters.
//
// KUMA: GET events/clusters, support.kaspersky.com/help/KUMA/3.2/ru-RU/222298.htm.
func (c *Client) Clusters(ctx context.Context) ([]Cluster, error) {
	body, err := c.call(ctx, restRequest{method: http.MethodGet, path: restClusters})
	if err != nil {
		return nil, err
	}
	var clusters []Cluster
	if err := restDecode(restClusters, body, &clusters); err != nil {
		return nil, err
	}
	return clusters[:min(len(clusters), restMaxFound)], nil
}

// FindEvent returns the document of one event, whichever cluster it is in. ErrEventNotFound means that KUMA answered and has
// it nowhere; a correlation event may take a moment from its response rule to the storage.
func (c *Client) FindEvent(ctx context.Context, id string, at time.Time) ([]byte, error) {
	docs, err := c.Events(ctx, EventQuery{IDs: []string{id}, Around: at})
	if _, refused := errors.AsType[*APIError](err); refused && !errors.Is(err, ErrCredentials) && !restPassing(err) {
		// not documented: how a missing cluster id is refused when there are several clusters.
		return c.searchClusters(ctx, id, at, err)
	}
	return oneEvent(docs, err)
}

// ErrEventNotFound is returned when no storage has the event.
var ErrEventNotFound = errors.New("no such event in the storage of kuma")

func oneEvent(docs [][]byte, err error) ([]byte, error) {
	switch {
	case err != nil:
		return nil, err
	case len(docs) == 0:
		return nil, ErrEventNotFound
	default:
		return docs[0], nil
	}
}

// searchClusters asks each cluster in turn. refusal is what the search without a cluster was answered.
func (c *Client) searchClusters(ctx context.Context, id string, at time.Time, refusal error) ([]byte, error) {
	clusters, err := c.Clusters(ctx)
	if err != nil {
		return nil, errors.Join(refusal, err)
	}
	if len(clusters) < 2 {
		return nil, refusal
	}
	var errs []error
	for _, cl := range clusters {
		doc, err := oneEvent(c.Events(ctx, EventQuery{IDs: []string{id}, Around: at, Cluster: cl.ID}))
		switch {
		case err == nil:
			return doc, nil
		case !errors.Is(err, ErrEventNotFound):
			errs = append(errs, err) // one cluster that is out does not hide what another has
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return nil, ErrEventNotFound
}
