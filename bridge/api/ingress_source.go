package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// IngressKind is what the requests of a source carry.
type IngressKind string

// The kinds.
const (
	// IngressWebhook takes each body as one document and leaves it to the preset as it came.
	IngressWebhook IngressKind = "webhook"
	// IngressKUMA takes bodies of many documents: NDJSON, JSON arrays, concatenated objects, CEF lines.
	IngressKUMA IngressKind = "kuma-http"
	// IngressHandler leaves requests to a handler; what comes before it is the same.
	IngressHandler IngressKind = "handler"
)

// IngressSource is one source of an Ingress.
type IngressSource struct {
	// Name is the source's name in the settings, Preset the reading of its documents.
	Name, Preset string
	// Path begins with "/". A webhook has this path alone; the other kinds have it and all below it ("/" is every path), and the
	// longest that fits counts. Not documented: which path KUMA asks for (support.kaspersky.com/kuma/3.2/en-US/232961).
	Path string
	Kind IngressKind
	Auth Auth
	// OwnAuth says that the Handler authenticates its requests itself; kind handler only, and without Auth.
	OwnAuth bool
	// Encodings are the content encodings the peers may use beside identity: "gzip", "snappy" (blocks and frames).
	Encodings []string
	Rate      IngressRate
	// Peers are the addresses requests may come from; empty = all.
	Peers []netip.Prefix
	// Handler is for kind handler: it gets requests whose body has been read, authenticated and decoded, and has to heed their context.
	Handler http.Handler
}

// IngressRate is how much a source may bring. What is over it is answered 429 with Retry-After. Zero = no limit.
type IngressRate struct {
	// Requests and Documents are per second. A second's worth, and in any case one request as large as the limits allow, may come
	// at once.
	Requests, Documents float64
}

// ingressSource is a source at work.
type ingressSource struct {
	IngressSource
	auth authenticator // nil = everybody
	door *Door         // nil for a handler
	rate *ingressRates
}

func (i *Ingress) addSource(s IngressSource) error {
	name := "sources." + s.Name
	var errs []error
	wrong := func(setting, what string, args ...any) {
		errs = append(errs, fmt.Errorf(name+"."+setting+": "+what, args...))
	}
	if s.Name == "" {
		wrong("name", "required")
	}
	if s.Path == "" || s.Path[0] != '/' || strings.ContainsAny(s.Path, "?#%\\ ") || strings.Contains(s.Path, "//") || strings.Contains(s.Path, "/.") {
		wrong("path", "%q is no path such as /webhook/wazuh", s.Path)
	}
	s.Path = "/" + strings.Trim(s.Path, "/")
	for _, other := range i.sources {
		if other.Name == s.Name {
			wrong("name", "two sources have it")
		}
		if other.Path == s.Path {
			wrong("path", "%s is the path of source %s too", s.Path, other.Name)
		}
	}
	switch s.Kind {
	case IngressWebhook, IngressKUMA:
		if s.Handler != nil || s.OwnAuth {
			wrong("kind", "only the kind handler has a handler")
		}
	case IngressHandler:
		if s.Handler == nil || s.Preset != "" {
			wrong("kind", "the kind handler needs a handler and has no preset")
		}
	default:
		wrong("kind", "%q is none of webhook, kuma-http, handler", s.Kind)
	}
	for _, e := range s.Encodings {
		if !slices.Contains([]string{encodingIdentity, encodingGzip, encodingSnappy}, e) {
			wrong("encodings", "%q is none of identity, gzip, snappy", e)
		}
	}
	for _, p := range s.Peers {
		if !p.IsValid() {
			wrong("peers", "an entry is no address or prefix")
		}
	}
	if s.Rate.Requests < 0 || s.Rate.Documents < 0 {
		wrong("rate", "must not be negative")
	}
	if err := i.checkAuth(s); err != nil {
		wrong("auth", "%w", err)
	}
	auth, err := newAuthenticator(s.Auth, i.cfg.Now)
	if err != nil {
		wrong("auth", "%w", err)
	}
	i.sources = append(i.sources, i.newSource(s, auth))
	return errors.Join(errs...)
}

func (i *Ingress) checkAuth(s IngressSource) error {
	switch {
	case s.OwnAuth && !s.Auth.none():
		return errors.New("the handler authenticates its requests itself")
	case s.Auth.none() && !s.OwnAuth && !i.loopback:
		return fmt.Errorf("required, because %q is no loopback address (http.listen)", i.cfg.Listen)
	case s.Auth.MTLS != nil && i.cfg.TLS.ClientCA == "":
		return errors.New("mtls needs http.tls.client_ca")
	default:
		return nil
	}
}

func (i *Ingress) newSource(s IngressSource, auth authenticator) *ingressSource {
	s.Encodings, s.Peers = slices.Clone(s.Encodings), slices.Clone(s.Peers)
	out := &ingressSource{IngressSource: s, auth: auth, rate: newIngressRates(s.Rate, i.cfg.Limits.Documents)}
	if s.Kind != IngressHandler {
		out.door = newDoor(s.Name, s.Preset, i.ready, &i.serving)
		i.doors = append(i.doors, out.door)
	}
	return out
}

// fits reports whether the source answers for a path.
func (s *ingressSource) fits(path string) bool {
	rest, ok := strings.CutPrefix(path, s.Path)
	switch {
	case !ok:
		return false
	case rest == "" || rest == "/" || s.Path == "/" && s.Kind != IngressWebhook:
		return true
	default:
		return s.Kind != IngressWebhook && rest[0] == '/'
	}
}

func (s *ingressSource) takes(peer netip.Addr) bool {
	return len(s.Peers) == 0 || slices.ContainsFunc(s.Peers, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// documentsOf cuts the body into what becomes a delivery each.
func (s *ingressSource) documentsOf(body []byte, l IngressLimits) ([][]byte, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	if s.Kind == IngressKUMA {
		return splitBody(body, l.Documents)
	}
	return [][]byte{body}, checkDepth(body, l.Depth)
}

// retryAfter is d in whole seconds, at least one.
func retryAfter(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }
