package ksctest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

func ExampleServer() {
	s, err := ksctest.New(ksctest.Config{
		Accounts: []ksctest.Account{{User: "kscUser", Password: "kscPassword"}},
		Hosts:    []ksctest.Host{{ID: "8910f900-3807-4b97-8a97-d49e73ec5ab1", DisplayName: "WS-01"}},
	})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	defer s.Close()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CertPEM())
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	post := func(method, body, header, value string) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/api/v1.0/"+method, strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		req.Header.Set(header, value)
		res, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		answer, _ := io.ReadAll(res.Body)
		return string(answer)
	}

	session := post("Session.StartSession", "{}", "Authorization",
		`KSCBasic user="a3NjVXNlcg==", pass="a3NjUGFzc3dvcmQ=", domain="", internal="0"`)
	session = strings.TrimSuffix(strings.TrimPrefix(session, `{"PxgRetVal":"`), `"}`)
	fmt.Fprintln(os.Stdout, post("HostGroup.AddIncident", `{"pData": {"KLINCDT_SEVERITY": 2,
		"KLINCDT_ADDED": {"type": "datetime", "value": "2026-11-20T17:06:56Z"},
		"KLINCDT_BODY": "{\"task\":\"isolateHost\"}",
		"KLHST_WKS_HOSTNAME": "8910f900-3807-4b97-8a97-d49e73ec5ab1"}}`, "X-KSC-Session", session))
	for _, i := range s.Incidents() {
		fmt.Fprintln(os.Stdout, i.ID, i.Host, i.Added, i.Body)
	}
	// Output:
	// {"PxgRetVal":1}
	// 1 8910f900-3807-4b97-8a97-d49e73ec5ab1 2026-11-20 17:06:56 +0000 UTC {"task":"isolateHost"}
}
