package kumatest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	pushTimeout = 60 * time.Second
	maxReply    = 64 << 10
)

// SOAR plays KUMA's integration with R-Vision: the probe of its settings and the form a new or grown alert is pushed by
// (wrLd-ru/kuma_soar_integration service.py). How KUMA carries the token is not documented, so it is a choice here.
type SOAR struct {
	// URL is the base of the receiver, such as "http://127.0.0.1:8080".
	URL string
	// Token is the secret, Place where it goes: "header:<name>", "bearer", "query:<name>" or "form:<name>"; "" = nowhere.
	Token, Place string
	// AlertTag names the field of the alert id; "" = "alert_id".
	AlertTag string
	// TLS is for receivers with TLS; nil = the defaults.
	TLS *tls.Config
}

// Reply is what a receiver answered.
type Reply struct {
	Status int
	Body   []byte
}

// Taken reports whether the answer means to KUMA that the push arrived.
func (r Reply) Taken() bool {
	var body struct {
		Success bool `json:"success"`
	}
	return r.Status == http.StatusOK && json.Unmarshal(r.Body, &body) == nil && body.Success
}

// Probe asks for the owner of the token, as KUMA does while the settings are saved.
func (p SOAR) Probe(ctx context.Context) (Reply, error) {
	return p.send(ctx, http.MethodGet, "/api/v2/tokens/get_info_by_token", nil)
}

// Push announces an alert. Level is localised text in KUMA.
func (p SOAR) Push(ctx context.Context, alertID string) (Reply, error) {
	tag := p.AlertTag
	if tag == "" {
		tag = "alert_id"
	}
	return p.send(ctx, http.MethodPost, "/api/v2/incidents", url.Values{
		tag: {alertID}, "kuma_url": {"https://kuma.example.com:7220/alerts/" + alertID}, "company": {"Main"}, "level": {"Высокий"},
	})
}

func (p SOAR) send(ctx context.Context, method, path string, form url.Values) (Reply, error) {
	target, err := url.Parse(p.URL + path)
	if err != nil {
		return Reply{}, fmt.Errorf("push: %w", err)
	}
	kind, name, _ := strings.Cut(p.Place, ":")
	header := http.Header{}
	switch kind {
	case "":
	case "header":
		header.Set(name, p.Token)
	case "bearer":
		header.Set("Authorization", "Bearer "+p.Token)
	case "query":
		target.RawQuery = url.Values{name: {p.Token}}.Encode()
	case "form":
		if form != nil {
			form.Set(name, p.Token)
		}
	default:
		return Reply{}, fmt.Errorf("push: unknown place of the token %q", p.Place)
	}
	if form == nil {
		return post(ctx, p.TLS, method, target.String(), header, nil)
	}
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	return post(ctx, p.TLS, method, target.String(), header, []byte(form.Encode()))
}

// post sends one request on a connection of its own and reads the answer.
func post(ctx context.Context, trust *tls.Config, method, target string, header http.Header, body []byte) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return Reply{}, fmt.Errorf("push: %w", err)
	}
	req.Header = header
	tr := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return Reply{}, fmt.Errorf("push: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return Reply{Status: resp.StatusCode}, fmt.Errorf("push: read the answer: %w", err)
	}
	return Reply{Status: resp.StatusCode, Body: answer}, nil
}
