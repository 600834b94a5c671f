package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestDoorsKeepTheContractOfSources(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]IngressSource{
		"webhook":   {Name: "hook", Preset: "generic", Path: "/in", Kind: IngressWebhook},
		"kuma-http": {Name: "siem", Preset: "kuma", Path: "/in", Kind: IngressKUMA},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
				b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{source} })
				d := b.Doors()[0]
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := d.Run(context.WithoutCancel(t.Context())); err != nil {
						t.Errorf("run: %v", err)
					}
				})
				t.Cleanup(func() {
					if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
						t.Errorf("close: %v", err)
					}
					wg.Wait()
				})
				<-d.Ready()
				if !d.Connected() {
					t.Error("the door is not connected although the ingress serves")
				}
				return bridgetest.SourceUnderTest{
					Source: d, Name: source.Name, Preset: source.Preset, Close: d.Close,
					Send: func(ctx context.Context, doc []byte) error {
						r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.addr+"/in", strings.NewReader(string(doc)))
						if err != nil {
							return err
						}
						answer, err := b.send(r)
						if err == nil && answer.status != http.StatusOK {
							err = fmt.Errorf("status %d: %s", answer.status, answer.body)
						}
						return err
					},
				}
			})
		})
	}
}

func TestTheAnswerComesAfterTheCommit(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	answered := make(chan ingressReply, 1)
	request := b.request(t, http.MethodPost, "/webhook/hook", `{"id":"a1"}`)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		answer, err := b.send(request)
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	})
	d, err := b.door("hook").Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(d.Alert.Raw); got != `{"id":"a1"}` {
		t.Errorf("document is %q", got)
	}
	select {
	case a := <-answered:
		t.Fatalf("answered %d before the delivery was settled", a.status)
	case <-time.After(100 * time.Millisecond):
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.status != http.StatusOK || a.body != `{"accepted":1}` {
		t.Errorf("answer is %d %s", a.status, a.body)
	}
}

func TestABatchIsAnsweredWhenItsLastDocumentIsSettled(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	answered := make(chan ingressReply, 1)
	request := b.request(t, http.MethodPost, "/kuma/any/path?x=1", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		answer, err := b.send(request)
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	})
	var got []bridge.Delivery
	for n := range 3 {
		d, err := b.door("siem").Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"n":%d}`, n+1); string(d.Alert.Raw) != want {
			t.Errorf("document %d is %s, want %s", n, d.Alert.Raw, want)
		}
		got = append(got, d)
	}
	for _, n := range []int{2, 0} {
		if err := got[n].Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case a := <-answered:
		t.Fatalf("answered %d with a document unsettled", a.status)
	case <-time.After(50 * time.Millisecond):
	}
	_ = got[1].Settle(t.Context(), nil)
	if a := <-answered; a.status != http.StatusOK || a.body != "" || a.header.Get("X-Dead-Letters") != "" {
		t.Errorf("answer is %d %q %v", a.status, a.body, a.header)
	}
}

func TestAFailingStoreIsAnswered503(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	b.settling(t, func(a bridge.Alert) error {
		if strings.Contains(string(a.Raw), "full") {
			return errors.New("disk of /var/lib is full")
		}
		return nil
	})
	for _, path := range []string{"/webhook/hook", "/kuma"} {
		a := b.post(t, path, "{\"n\":1}\n{\"n\":\"full\"}\n")
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: answer is %d, Retry-After %q", path, a.status, a.header.Get("Retry-After"))
		}
		if strings.Contains(a.body, "/var/lib") {
			t.Errorf("%s: the peer is told of the machine's insides: %s", path, a.body)
		}
	}
}

func TestADeadLetterIsToldToTheSender(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	b.settling(t, jsonMapper)
	hook := b.post(t, "/webhook/hook", `{"process":{"pid":}}`)
	p := problemOf(t, hook.body)
	if hook.status != http.StatusUnprocessableEntity || p.Status != hook.status || !strings.Contains(p.Detail, "process.pid: ") ||
		hook.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("webhook: answer is %d %s", hook.status, hook.body)
	}
	kuma := b.post(t, "/kuma", "{\"n\":1}\n{\"n\":}\n{\"n\":3}\nCEF:0|x|y|1|2|3|4|\n")
	if kuma.status != http.StatusOK || kuma.header.Get("X-Dead-Letters") != "2" || kuma.body != "" {
		t.Errorf("kuma-http: answer is %d %q, X-Dead-Letters %q", kuma.status, kuma.body, kuma.header.Get("X-Dead-Letters"))
	}
	if n := b.meter.of(RefusedDeadLetter); n != 1 {
		t.Errorf("%d dead letters counted as refused, want that of the webhook", n)
	}
}

func TestHostileContentDoesNotReachTheAnswer(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	b.settling(t, func(a bridge.Alert) error { return fmt.Errorf("%w: title: %s", bridge.ErrBadAlert, a.Raw) })
	a := b.post(t, "/webhook/hook", "{\"t\":\"\u202e\x1b[31m<script>\u00e9"+strings.Repeat("A", 1000)+"\"}")
	p := problemOf(t, a.body)
	if len(p.Detail) > maxDetail+10 {
		t.Errorf("detail has %d bytes", len(p.Detail))
	}
	for _, r := range p.Detail {
		if r < ' ' || r > '~' {
			t.Errorf("detail holds %q: %q", r, p.Detail)
		}
	}
	if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options is %q", got)
	}
}

func TestDocumentsOfAClientThatLeftAreSettled(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	request := b.request(t, http.MethodPost, "/kuma", `{"n":1}{"n":2}`).WithContext(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.send(request); err == nil {
			t.Error("the request that was given up was answered")
		}
	})
	first, err := b.door("siem").Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	second, err := b.door("siem").Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []bridge.Delivery{first, second} {
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	awaitTrue(t, "both documents are counted", func() bool { return b.meter.taken("siem") == 2 })
}

func TestABridgeThatDoesNotAnswerIsAnswered503(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Limits.Answer = 50 * time.Millisecond })
	if a := b.post(t, "/webhook/hook", `{}`); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
		t.Errorf("nobody receives: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	late := make(chan bridge.Delivery, 1)
	go func() {
		d, _ := b.door("hook").Receive(t.Context())
		late <- d
	}()
	if a := b.post(t, "/webhook/hook", `{}`); a.status != http.StatusServiceUnavailable {
		t.Errorf("nobody settles: %d", a.status)
	}
	d := <-late
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Errorf("a settle after the answer: %v", err)
	}
	if err := d.Settle(t.Context(), nil); err == nil {
		t.Error("the second settle was accepted")
	}
	if n := b.meter.of(RefusedWaiting); n != 2 {
		t.Errorf("%d counted, want 2", n)
	}
}

func TestShutdownAnswersWhatItCan(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	hook := b.door("hook")
	type outcome struct {
		answer ingressReply
		err    error
	}
	send := func(doc string) <-chan outcome {
		c := make(chan outcome, 1)
		r := b.request(t, http.MethodPost, "/webhook/hook", doc)
		go func() {
			a, err := b.send(r)
			c <- outcome{a, err}
		}()
		return c
	}
	first := send(`{"n":"in hand"}`)
	d, err := hook.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waits := send(`{"n":"waits"}`)
	awaitTrue(t, "the second request waits", func() bool {
		hook.mu.Lock()
		defer hook.mu.Unlock()
		return hook.waiting == 2
	})
	slow := b.raw(t, "POST /webhook/hook HTTP/1.1\r\nHost: loc") // these must not hold the end up
	body := b.raw(t, "POST /webhook/hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
	awaitTrue(t, "the body is read", func() bool { return b.phases(connBody) == 1 })
	ended := make(chan error, 1)
	go func() { ended <- b.end() }()
	if o := <-waits; o.err != nil || o.answer.status != http.StatusServiceUnavailable {
		t.Errorf("what waits: %d, %v", o.answer.status, o.err)
	}
	if hook.Connected() {
		t.Error("the door is connected although the ingress ends")
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if o := <-first; o.err != nil || o.answer.status != http.StatusOK {
		t.Errorf("what the bridge had in hand: %d, %v", o.answer.status, o.err)
	}
	begin := time.Now()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the end took %s", took)
	}
	for _, conn := range []net.Conn{slow, body} {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a request that did not arrive whole is still open")
		}
	}
}

func TestTheEndDoesNotWaitForABridgeThatDoesNotSettle(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil, func(in *Ingress) { in.drain = 50 * time.Millisecond })
	answered := make(chan int, 1)
	r := b.request(t, http.MethodPost, "/webhook/hook", `{}`)
	go func() {
		a, _ := b.send(r)
		answered <- a.status
	}()
	if _, err := b.door("hook").Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.end(); err != nil {
		t.Error(err)
	}
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", status)
	}
}

func TestAClosedDoorAnswers503(t *testing.T) {
	t.Parallel()
	b := openIngress(t, nil)
	if err := b.door("hook").Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := b.post(t, "/webhook/hook", `{}`); a.status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", a.status)
	}
	if err := b.door("hook").Run(t.Context()); err != nil {
		t.Errorf("running a closed door: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	siem := b.door("siem")
	if err := siem.Run(ended); err != nil {
		t.Error(err)
	}
	if err := siem.Run(ended); err == nil {
		t.Error("a door runs twice")
	}
	if _, err := siem.Receive(t.Context()); !errors.Is(err, bridge.ErrClosed) || siem.Connected() {
		t.Errorf("after its end: %v, connected %t", err, siem.Connected())
	}
}
