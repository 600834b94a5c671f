package kuma

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

const testToken = "tok-2f7c1d9e-secret"

// startKuma starts a mock core for the test.
func startKuma(t *testing.T, change func(*kumatest.Config)) *kumatest.Server {
	t.Helper()
	cfg := kumatest.Config{Token: testToken}
	if change != nil {
		change(&cfg)
	}
	srv, err := kumatest.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// newTestClient trusts the mock and does not repeat requests unless asked to.
func newTestClient(t *testing.T, srv *kumatest.Server, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Address: srv.Addr(), CA: srv.CertificatePEM(), Timeout: 5 * time.Second, Retries: -1,
		Token: func(context.Context) ([]byte, error) { return []byte(testToken), nil },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testID returns the n-th UUID of a family.
func testID(family, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", family, n) }

// testAlert is an alert with one correlation event on the host, last seen that many seconds after a fixed moment.
func testAlert(n, seconds int, host string) []byte {
	at := testStart().Add(time.Duration(seconds) * time.Second)
	return fmt.Appendf(nil, `{"id":%q,"name":"rule <%d>","tenantID":%q,"status":"new","priority":11,"firstSeen":%q,"lastSeen":%q,`+
		`"events":[{"ID":%q,"Type":3,"Timestamp":%d,"Priority":3,"DeviceHostName":%q}]}`,
		testID(1, n), n, testID(9, 1), at.Format(time.RFC3339), at.Format(time.RFC3339), testID(2, n), at.UnixMilli(), host)
}

// testStart is the moment most tests begin at.
func testStart() time.Time { return time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC) }

func putAlert(t *testing.T, srv *kumatest.Server, doc []byte) {
	t.Helper()
	if err := srv.PutAlert(doc); err != nil {
		t.Fatal(err)
	}
}
