package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	otherKey  = "fedcba9876543210fedcba9876543210"
	goodNonce = "nonce-0123456789"
)

// headersOf is a signature with some headers changed; an empty value removes one.
func headersOf(sig []string, changes ...string) []string {
	out := slices.Clone(sig)
	for n := 0; n < len(changes); n += 2 {
		if at := slices.Index(out, changes[n]); at >= 0 {
			out[at+1] = changes[n+1]
			continue
		}
		out = append(out, changes[n], changes[n+1])
	}
	return out
}

func TestA1RequestsThatAreNotAuthenticAreRefusedUnread(t *testing.T) {
	t.Parallel()
	const body = `{"id":"a1"}`
	b := openIngress(t, func(cfg *IngressConfig) {
		s := signedSource()
		s.Auth.HMAC.Keys = append(s.Auth.HMAC.Keys, AuthKey{ID: "k2", Secret: fixed(otherKey)})
		cfg.Sources = []IngressSource{s}
	})
	b.settling(t, acceptAll)
	now := b.clock.now()
	sign := func(at time.Time, nonce string) []string {
		return signature(testKey, "k1", "POST", "/signed", at, nonce, body)
	}
	good := sign(now, goodNonce)
	if a := b.post(t, "/signed", body, good...); a.status != http.StatusOK {
		t.Fatalf("a good request: %d %s", a.status, a.body)
	}
	n := 0
	fresh := func() string { n++; return fmt.Sprintf("fresh-nonce-%05d", n) }
	for _, c := range []struct {
		name, target, body string
		header             []string
		reason             IngressReason
	}{
		{"no signature", "/signed", body, nil, RefusedAuth},
		{"empty signature", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Signature", ""), RefusedAuth},
		{"another version", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Signature", "v0="+strings.Repeat("0", 64)), RefusedAuth},
		{"forged", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Signature", "v1="+strings.Repeat("0", 64)), RefusedAuth},
		{"no hex", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Signature", "v1="+strings.Repeat("z", 64)), RefusedAuth},
		{"another key", "/signed", body, signature("x"+testKey, "k1", "POST", "/signed", now, fresh(), body), RefusedAuth},
		{"swapped key id", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Key", "k2"), RefusedAuth},
		{"unknown key id", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Key", "k3"), RefusedAuth},
		{"hostile key id", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Key", "../k1"), RefusedAuth},
		{"another body", "/signed", body + " ", sign(now, fresh()), RefusedAuth},
		{"shorter body", "/signed", body[:5], sign(now, fresh()), RefusedAuth},
		{"no body", "/signed", "", sign(now, fresh()), RefusedAuth},
		{"another target", "/signed?x=1", body, sign(now, fresh()), RefusedAuth},
		{"another nonce", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Nonce", goodNonce), RefusedAuth},
		{"short nonce", "/signed", body, sign(now, "short"), RefusedAuth},
		{"no timestamp", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Timestamp", ""), RefusedAuth},
		{"timestamp of words", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Timestamp", "now"), RefusedAuth},
		{"another timestamp", "/signed", body, headersOf(sign(now, fresh()), "X-EDR-Timestamp", fmt.Sprint(now.Unix()+1)), RefusedAuth},
		{"from the future", "/signed", body, sign(now.Add(302*time.Second), fresh()), RefusedSkew},
		{"expired", "/signed", body, sign(now.Add(-302*time.Second), fresh()), RefusedSkew},
		{"expired and forged", "/signed", body, signature(testKey, "k2", "POST", "/signed", now.Add(-time.Hour), fresh(), body), RefusedAuth},
		{"replay", "/signed", body, good, RefusedReplay},
	} {
		before, received := b.meter.of(c.reason), b.meter.taken("signed")
		a := b.post(t, c.target, c.body, c.header...)
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: status %d, WWW-Authenticate %q", c.name, a.status, a.header.Get("WWW-Authenticate"))
		}
		if got := b.meter.of(c.reason); got != before+1 {
			t.Errorf("%s: counted %d times as %s, want once: %s", c.name, got-before, c.reason, a.body)
		}
		if b.meter.taken("signed") != received {
			t.Errorf("%s: it was delivered", c.name)
		}
		if want := `{"title":"not authenticated","status":401}` + "\n"; c.reason == RefusedAuth && a.body != want {
			t.Errorf("%s: the answer tells more than it should: %s", c.name, a.body)
		}
	}
	if a := b.post(t, "/signed", body, signature(otherKey, "k2", "POST", "/signed", now, fresh(), body)...); a.status != http.StatusOK {
		t.Errorf("the second key: %d %s", a.status, a.body)
	}
	if a := b.post(t, "/signed", body, signature(otherKey, "", "POST", "/signed", now, fresh(), body)...); a.status != http.StatusOK {
		t.Errorf("the second key without its id: %d %s", a.status, a.body)
	}
	if lines := strings.Count(b.logs.String(), "reason=auth"); lines > 3 {
		t.Errorf("%d log lines for refusals within a second or two", lines)
	}
	if strings.Contains(b.logs.String(), testKey) || strings.Contains(b.logs.String(), otherKey) {
		t.Error("a key stands in the log")
	}
}

func TestA1ATruncatedBodyIsNotParsed(t *testing.T) {
	t.Parallel()
	const body = `{"id":"a1"}`
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{signedSource()} })
	b.settling(t, acceptAll)
	r := b.request(t, http.MethodPost, "/signed", body, signature(testKey, "k1", "POST", "/signed", b.clock.now(), goodNonce, body)...)
	var head strings.Builder
	fmt.Fprintf(&head, "POST /signed HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", b.addr, len(body))
	_ = r.Header.Write(&head)
	conn := b.raw(t, head.String()+"\r\n"+body[:6])
	closeWrite(t, conn)
	if status, text := answerOn(t, conn); status != http.StatusBadRequest {
		t.Errorf("answer is %d %s", status, text)
	}
	if b.meter.of(RefusedTruncated) != 1 {
		t.Error("the body was not refused as truncated")
	}
	if a := b.do(t, r); a.status != http.StatusOK {
		t.Errorf("the whole body after it: %d %s", a.status, a.body)
	}
}

func TestASkewedClockIsExplainedToWhoHoldsTheKey(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{signedSource()} })
	a := b.post(t, "/signed", "{}", signature(testKey, "k1", "POST", "/signed", b.clock.now().Add(-400*time.Second), goodNonce, "{}")...)
	if p := problemOf(t, a.body); a.status != http.StatusUnauthorized || !strings.Contains(p.Detail, "400 s") || !strings.Contains(p.Detail, "NTP") {
		t.Errorf("answer is %d %s", a.status, a.body)
	}
}

func TestARequestThatWasNotAcceptedMayBeSentAgainAsItIs(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{signedSource()} })
	d := b.door("signed")
	header := signature(testKey, "k1", "POST", "/signed", b.clock.now(), goodNonce, "{}")
	for n, settle := range []error{errors.New("the store is full"), nil} {
		request := b.request(t, http.MethodPost, "/signed", "{}", header...)
		status := make(chan int, 1)
		go func() {
			a, _ := b.send(request)
			status <- a.status
		}()
		delivery, err := d.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a := b.post(t, "/signed", "{}", header...); a.status != http.StatusUnauthorized {
			t.Errorf("attempt %d: a copy beside it is answered %d", n, a.status)
		}
		_ = delivery.Settle(t.Context(), settle)
		if got, want := <-status, []int{503, 200}[n]; got != want {
			t.Errorf("attempt %d: %d, want %d", n, got, want)
		}
	}
	if a := b.post(t, "/signed", "{}", header...); a.status != http.StatusUnauthorized {
		t.Errorf("a copy after it is answered %d", a.status)
	}
}

func TestSignaturesFromBeforeTheStartAreToBeMadeAgain(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) { cfg.Sources = []IngressSource{signedSource()} })
	a := b.post(t, "/signed", "{}", signature(testKey, "k1", "POST", "/signed", b.clock.now().Add(-20*time.Second), goodNonce, "{}")...)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("answer is %d %s", a.status, a.body)
	}
}

func TestNoncesAreRememberedForTheirWindowAndNoLonger(t *testing.T) {
	t.Parallel()
	const start = 1_763_683_200
	n := newAuthNonces(start, 100)
	for _, at := range []int64{start, start + 5, start + signatureWindow} {
		if v := n.use(at, start, 1); v != nonceFresh {
			t.Errorf("first use at %d: %v", at, v)
		}
		if v := n.use(at, start, 1); v != nonceUsed {
			// 5 s later is the same bucket: a nonce is good once in it
			t.Errorf("second use at %d: %v", at, v)
		}
		n.forget(at, 1)
	}
	_ = n.use(start, start, 7)
	if v := n.use(start, start+signatureWindow, 7); v != nonceUsed {
		t.Errorf("at the end of its window: %v", v)
	}
	_ = n.use(start+700, start+700, 8)
	if len(n.buckets) != 1 || n.count != 1 {
		t.Errorf("%d buckets and %d nonces are left after the window", len(n.buckets), n.count)
	}
}

func TestAFullMemoryOfNoncesShortensTheWindow(t *testing.T) {
	t.Parallel()
	const start = 1_763_683_200
	n := newAuthNonces(start, 30)
	for s := range int64(30) {
		if v := n.use(start+s, start+30, uint64(s)); v != nonceFresh {
			t.Fatalf("nonce %d: %v", s, v)
		}
	}
	if v := n.use(start+30, start+30, 99); v != nonceFresh {
		t.Errorf("a nonce when it is full: %v", v)
	}
	if v := n.use(start+3, start+30, 3); v != nonceForgotten {
		t.Errorf("a nonce that may have been used: %v", v)
	}
	if v := n.use(start+15, start+30, 15); v != nonceUsed {
		t.Errorf("a nonce that is still known: %v", v)
	}
	if n.count > 30 {
		t.Errorf("%d are remembered, at most 30 may be", n.count)
	}
	tiny := newAuthNonces(start, 2)
	_, _ = tiny.use(start+1, start, 1), tiny.use(start+2, start, 2)
	if v := tiny.use(start+3, start, 3); v != nonceForgotten {
		t.Errorf("a nonce of the only bucket when it is full: %v", v)
	}
}

func TestSecretsAreAskedForOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, fails, secret := 0, false, testKey
		list, err := newSecrets([]Secret{func(context.Context) ([]byte, error) {
			if asked++; fails {
				return nil, errors.New("keyring is locked")
			}
			return []byte(secret), nil
		}}, minKey, "keys", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		digest := func() string {
			v, err := list[0].load(t.Context())
			if err != nil {
				return err.Error()
			}
			return hex.EncodeToString(v.digest[:4])
		}
		want := func(when, secret string, times int) {
			t.Helper()
			if sum := sha256.Sum256([]byte(secret)); digest() != hex.EncodeToString(sum[:4]) || asked != times {
				t.Errorf("%s: asked %d times, want %d, or another secret", when, asked, times)
			}
		}
		want("first", testKey, 1)
		secret = otherKey
		time.Sleep(44 * time.Second)
		want("after 44 s", testKey, 1)
		time.Sleep(2 * time.Second)
		want("after 46 s", otherKey, 2)
		fails = true
		time.Sleep(50 * time.Second)
		want("while the keyring fails", otherKey, 3)
		want("just after", otherKey, 3)
		time.Sleep(11 * time.Second)
		if got := digest(); !strings.Contains(got, "keyring is locked") || asked != 4 {
			t.Errorf("after a minute of failures: %s, asked %d times", got, asked)
		}
		fails = false
		time.Sleep(time.Second)
		want("when it answers again", otherKey, 5)
		secret = "short"
		time.Sleep(time.Minute)
		if got := digest(); !strings.Contains(got, "shorter than 16 bytes") || strings.Contains(got, secret+":") {
			t.Errorf("a short secret: %s", got)
		}
	})
}

func TestASecretThatCannotBeReadIsAnswered503(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	b := openIngress(t, func(cfg *IngressConfig) {
		s := signedSource()
		s.Auth.HMAC.Keys[0].Secret = func(context.Context) ([]byte, error) {
			if broken.Load() {
				return nil, errors.New("the keyring at /run/keys is locked")
			}
			return []byte(testKey), nil
		}
		cfg.Sources = []IngressSource{s}
	})
	b.settling(t, acceptAll)
	header := signature(testKey, "k1", "POST", "/signed", b.clock.now(), goodNonce, "{}")
	a := b.post(t, "/signed", "{}", header...)
	if a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "/run/keys") {
		t.Errorf("answer is %d %s", a.status, a.body)
	}
	broken.Store(false)
	b.clock.advance(2 * time.Second)
	if a := b.post(t, "/signed", "{}", header...); a.status != http.StatusOK {
		t.Errorf("when it can be read again: %d %s", a.status, a.body)
	}
}

func TestPasswordsAndTokensLetInWhoKnowsThem(t *testing.T) {
	t.Parallel()
	b := openIngress(t, func(cfg *IngressConfig) {
		cfg.Sources = []IngressSource{
			{Name: "basic", Path: "/basic", Kind: IngressKUMA, Auth: Auth{Basic: &BasicAuth{User: "kuma", Passwords: []Secret{fixed("correct horse"), fixed("battery staple")}}}},
			{Name: "bearer", Path: "/bearer", Kind: IngressWebhook, Auth: Auth{Bearer: &BearerAuth{Tokens: []Secret{fixed(testKey)}}}},
			{Name: "hub", Path: "/hub", Kind: IngressWebhook, Auth: Auth{BodyHMAC: &BodyHMACAuth{Keys: []Secret{fixed(testKey)}}}},
		}
	})
	b.settling(t, acceptAll)
	basic := func(user, password string) string {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x", nil)
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	mac := hmac.New(sha256.New, []byte(testKey))
	mac.Write([]byte("{}"))
	hub := hex.EncodeToString(mac.Sum(nil))
	for _, c := range []struct {
		path, header, value string
		status              int
	}{
		{"/basic", "Authorization", basic("kuma", "correct horse"), 200},
		{"/basic", "Authorization", basic("kuma", "battery staple"), 200},
		{"/basic", "Authorization", basic("kuma", "correct"), 401},
		{"/basic", "Authorization", basic("kumb", "correct horse"), 401},
		{"/basic", "Authorization", basic("", ""), 401},
		{"/basic", "Authorization", "Bearer " + testKey, 401},
		{"/basic", "Authorization", "", 401},
		{"/bearer", "Authorization", "Bearer " + testKey, 200},
		{"/bearer", "Authorization", "bearer  " + testKey, 200},
		{"/bearer", "Authorization", "Bearer " + testKey + "x", 401},
		{"/bearer", "Authorization", "Bearer ", 401},
		{"/bearer", "Authorization", "Bearer", 401},
		{"/bearer", "Authorization", testKey, 401},
		{"/hub", "X-Hub-Signature-256", "sha256=" + hub, 200},
		{"/hub", "X-Hub-Signature-256", hub, 200},
		{"/hub", "X-Hub-Signature-256", "sha1=" + hub, 401},
		{"/hub", "X-Hub-Signature-256", hub[:62] + "00", 401},
		{"/hub", "X-Other", hub, 401},
	} {
		if a := b.post(t, c.path, "{}", c.header, c.value); a.status != c.status {
			t.Errorf("%s with %s %.30q: %d, want %d", c.path, c.header, c.value, a.status, c.status)
		}
	}
}

func FuzzSignatureHeaders(f *testing.F) {
	f.Add("k1", "1763683200", "nonce-0123456789", "v1="+strings.Repeat("ab", 32), "{}")
	f.Add("", "99999999999999999999", "nonce", "v1=", "")
	f.Add("k1", "-5", "nonce-0123456789\n", "v1=v1=", "\x00")
	check, err := newHMACCheck(HMACAuth{Keys: []AuthKey{{ID: "k1", Secret: fixed(testKey)}}}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, stamp, nonce, sig, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/y", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"X-Edr-Key": {key}, "X-Edr-Timestamp": {stamp}, "X-Edr-Nonce": {nonce}, "X-Edr-Signature": {sig}}
		if _, err := check.after(t.Context(), r, []byte(body)); err == nil {
			t.Fatal("a made-up signature was accepted")
		}
	})
}
