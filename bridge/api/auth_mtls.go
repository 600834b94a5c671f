package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// mtlsCheck is MTLSAuth at work.
type mtlsCheck struct{ names map[string]bool }

func newMTLSCheck(a MTLSAuth) (*mtlsCheck, error) {
	c := &mtlsCheck{names: map[string]bool{}}
	for _, name := range a.Names {
		kind, value, ok := strings.Cut(name, ":")
		if !ok {
			kind, value = "dns", name
		}
		switch kind {
		case "dns", "email":
			value = strings.ToLower(value)
		case "uri", "subject":
		default:
			return nil, fmt.Errorf("mtls name %q: want dns:, uri:, email: or subject: before it", name)
		}
		if value == "" || strings.Contains(value, "*") {
			return nil, fmt.Errorf("mtls name %q: want a name without wildcards", name)
		}
		c.names[kind+":"+value] = true
	}
	if len(c.names) == 0 {
		return nil, errors.New("mtls names: at least one is needed, else every certificate of the CA would do")
	}
	return c, nil
}

func (c *mtlsCheck) before(_ context.Context, r *http.Request) error {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return denied("there is no client certificate of the CA")
	}
	if !c.lists(r.TLS.VerifiedChains[0][0]) {
		return denied("no name of the client certificate is listed")
	}
	return nil
}

func (c *mtlsCheck) lists(cert *x509.Certificate) bool {
	for _, name := range cert.DNSNames {
		if c.names["dns:"+strings.ToLower(name)] {
			return true
		}
	}
	for _, address := range cert.EmailAddresses {
		if c.names["email:"+strings.ToLower(address)] {
			return true
		}
	}
	for _, uri := range cert.URIs {
		if c.names["uri:"+uri.String()] {
			return true
		}
	}
	return c.names["subject:"+cert.Subject.String()]
}

func (c *mtlsCheck) after(context.Context, *http.Request, []byte) (authTicket, error) {
	return authTicket{}, nil
}
