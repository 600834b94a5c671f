package kumatest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang/snappy"
)

func TestDestinationPacksAsItIsAsked(t *testing.T) {
	t.Parallel()
	docs := [][]byte{[]byte(`{"ID":"a"}`), []byte(`{"ID":"b"}`)}
	for framing, want := range map[Framing]string{
		Lines: "{\"ID\":\"a\"}\n{\"ID\":\"b\"}\n", "": "{\"ID\":\"a\"}\n{\"ID\":\"b\"}\n", Array: `[{"ID":"a"},{"ID":"b"}]`, Concatenated: `{"ID":"a"}{"ID":"b"}`,
	} {
		if got := string(Destination{Framing: framing}.Body(docs...)); got != want {
			t.Errorf("%q: %q, want %q", framing, got, want)
		}
	}
}

func TestSnappyIsWhatTheLibraryReads(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 60, 61, 65535, 65536, 65537, 200_000} {
		want := []byte(strings.Repeat("kuma ", n/5+1)[:n])
		got, err := snappy.Decode(nil, snappyBlock(want))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("block of %d: %d bytes (%v)", n, len(got), err)
		}
		got, err = io.ReadAll(snappy.NewReader(bytes.NewReader(snappyFramed(want))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("frames of %d: %d bytes (%v)", n, len(got), err)
		}
	}
}

func TestDestinationPostsWithItsSecret(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		body, _ := io.ReadAll(r.Body)
		if user != "kuma" || password != "pw" || r.Header.Get("X-Site") != "1" || !strings.HasPrefix(string(body), "CEF:0|") {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer web.Close()
	d := Destination{URL: web.URL, User: "kuma", Password: "pw", Header: http.Header{"X-Site": {"1"}}}
	reply, err := d.Post(t.Context(), []byte("CEF:0|a|b|c|d|e|5|externalId=1"))
	if err != nil || reply.Status != http.StatusOK {
		t.Errorf("%d (%v)", reply.Status, err)
	}
}
