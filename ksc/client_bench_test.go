package ksc

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// stillWire answers at once and does nothing else.
type stillWire struct{}

func (stillWire) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	answer := `{"PxgRetVal": 17}`
	if strings.HasSuffix(r.URL.Path, "StartSession") {
		answer = `{"PxgRetVal": "nsPbUpP1oAVZlM1lODEbg8A=="}`
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(answer)), ContentLength: int64(len(answer)),
	}, nil
}

// BenchmarkCallWithoutNetwork shows what a call costs besides the connection. Budget: 10 µs more than the bare client.
func BenchmarkCallWithoutNetwork(b *testing.B) {
	in := NewIncident{
		Severity: 2, Added: DateTime{time.Date(2026, 11, 20, 17, 6, 56, 0, time.UTC)}, Host: "8910f900-3807-4b97-8a97-d49e73ec5ab1",
		Body: `{"targetHost":"8910f900-3807-4b97-8a97-d49e73ec5ab1","task":"isolateHost","params":{"action":1},"responseEventIncident":true,"responseEventIncidentArea":"Kuma"}`,
	}
	b.Run("bare", func(b *testing.B) {
		client := &http.Client{Transport: stillWire{}, Timeout: 30 * time.Second}
		body := preview(addIncidentIn{in})
		b.ReportAllocs()
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "https://ksc01:13299/api/v1.0/HostGroup.AddIncident", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.Run("client", func(b *testing.B) {
		c, _ := fakeClient(b)
		cfg := c.cfg
		c.rest = newREST(cfg, stillWire{})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.AddIncident(b.Context(), in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		c, _ := fakeClient(b)
		b.ReportAllocs()
		for b.Loop() {
			e := c.encoder()
			if err := e.json.Encode(addIncidentIn{in}); err != nil {
				b.Fatal(err)
			}
			c.keep(e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		body := []byte(`{"PxgRetVal": 17}`)
		b.ReportAllocs()
		for b.Loop() {
			var out addIncidentOut
			if err := decode(methodAddIncident, body, &out, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
