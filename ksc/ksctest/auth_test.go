package ksctest

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestSessionTokenHasTheVendorsForm(t *testing.T) {
	t.Parallel()
	c := newSession(t, startServer(t, testConfig()))
	if !regexp.MustCompile(`^n[A-Za-z0-9+/]{22}==$`).MatchString(c.session) {
		t.Errorf("session %q", c.session)
	}
	c.call("Session.Ping", "{}")
	c.call("Session.Ping", "")
}

func TestCallersWithoutALoginAreRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig())
	c := newClient(t, s)
	if r := c.post("HostGroup.AddIncident", addBody(hostA, "2026-11-20T17:06:56Z", "{}")); r.status != 401 || r.header.Get("Content-Type") != "text/plain" {
		t.Errorf("neither session nor login: %+v", r)
	}
	// Only login and StartSession look at the credentials.
	if r := c.post("Session.Ping", "{}", "Authorization", basic("kscUser", "kscPassword", "0")); r.status != 401 {
		t.Errorf("credentials on another method: %+v", r)
	}
	if r := c.post("Session.Ping", "{}", "X-KSC-Session", "nAAAAAAAAAAAAAAAAAAAAAA=="); r.status != 403 {
		t.Errorf("unknown session: %+v", r)
	}
	ended := newSession(t, s)
	ended.call("Session.EndSession", "{}")
	if r := ended.post("Session.Ping", "{}"); r.status != 403 || r.header.Get("Content-Type") != "text/plain" {
		t.Errorf("ended session: %+v", r)
	}
	if len(s.Incidents()) != 0 || s.OpenSessions() != 0 {
		t.Errorf("incidents %v, sessions %d", s.Incidents(), s.OpenSessions())
	}
}

func TestKSCBasicIsReadLeniently(t *testing.T) {
	t.Parallel()
	user, pass := b64("kscUser"), b64("kscPassword")
	for name, test := range map[string]struct {
		header string
		want   int
	}{
		"vendor":               {`KSCBasic user="` + user + `", pass="` + pass + `", domain="", internal="0"`, 200},
		"unquoted":             {"KSCBasic user=" + user + ",pass=" + pass + ",internal=false", 200},
		"other order":          {`KSCBasic pass="` + pass + `",internal="1",   user="` + user + `"`, 200},
		"only user and pass":   {`KSCBasic user="` + user + `", pass="` + pass + `"`, 200},
		"lower case scheme":    {`kscbasic user="` + user + `", pass="` + pass + `"`, 200},
		"no padding":           {`KSCBasic user=` + strings.TrimRight(user, "=") + `, pass=` + strings.TrimRight(pass, "="), 200},
		"wrong password":       {`KSCBasic user="` + user + `", pass="` + user + `"`, 401},
		"unknown user":         {`KSCBasic user="` + pass + `", pass="` + pass + `"`, 401},
		"not base64":           {`KSCBasic user="kscUser!", pass="kscPassword"`, 401},
		"no pass":              {`KSCBasic user="` + user + `"`, 401},
		"open quote":           {`KSCBasic user="` + user, 401},
		"another scheme":       {"Basic a3NjVXNlcjprc2NQYXNzd29yZA==", 401},
		"a token nobody made":  {"KSCT abc", 401},
		"a web token":          {"KSCWT abc", 401},
		"second factor before": {`KSCMFA totp="276069"`, 401},
		"nothing":              {"", 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, testConfig())
			for _, method := range []string{"Session.StartSession", "login"} {
				r := newClient(t, s).post(method, "", "Authorization", test.header)
				if r.status != test.want {
					t.Errorf("%s: got %d %q, want %d", method, r.status, r.text, test.want)
				}
			}
			if refused := s.FailedLogins(); (refused != 0) != (test.want == 401) {
				t.Errorf("%d failed logins", refused)
			}
		})
	}
}

func TestInternalFlagCountsWhenEnforced(t *testing.T) {
	t.Parallel()
	for _, enforce := range []bool{false, true} {
		cfg := testConfig()
		cfg.EnforceInternal = enforce
		s := startServer(t, cfg)
		for _, test := range []struct {
			user, pass, internal string
			right                bool
		}{
			{"kscUser", "kscPassword", "0", true},
			{"kscUser", "kscPassword", "1", false},
			{"api-user", "password", "1", true},
			{"api-user", "password", "0", false},
		} {
			r := newClient(t, s).post("login", "", "Authorization", basic(test.user, test.pass, test.internal))
			if want := test.right || !enforce; (r.status == 200) != want {
				t.Errorf("enforce %v, %+v: got %d", enforce, test, r.status)
			}
		}
	}
}

func TestFirstLoginIsRefusedWhileTheServerWarmsUp(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FirstLogin401 = true
	c := newClient(t, startServer(t, cfg))
	for i, want := range []int{401, 200, 200} {
		if r := c.post("Session.StartSession", "{}", "Authorization", basic("kscUser", "kscPassword", "0")); r.status != want {
			t.Errorf("login %d: got %d, want %d", i, r.status, want)
		}
	}
}

func TestSecondFactorFinishesTheSession(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Session.StartSession", "login"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.Accounts[0].TOTP = "276069"
			s := startServer(t, cfg)
			c := newClient(t, s)
			r := c.post(method, "", "Authorization", basic("kscUser", "kscPassword", "0"))
			if r.status != 401 || r.text != "Authentication not finished" ||
				r.header.Get("WWW-Authenticate") != `KSCMFA type="totp", lengthHint="6"` {
				t.Fatalf("first factor: %+v", r)
			}
			id := r.header.Get("X-KSC-Session")
			if r := c.post("Session.Ping", "", "X-KSC-Session", id); r.status != 401 {
				t.Errorf("half a login is none: %+v", r)
			}
			if r := c.post(method, "", "Authorization", `KSCMFA totp="000000"`, "X-KSC-Session", id); r.status != 401 {
				t.Errorf("wrong code: %+v", r)
			}
			if r := c.post(method, "", "Authorization", `KSCMFA totp="276069"`, "X-KSC-Session", id); r.status != 200 {
				t.Fatalf("second factor: %+v", r)
			}
			if r := c.post("Session.Ping", "", "X-KSC-Session", id); r.status != 200 {
				t.Errorf("after both factors: %+v", r)
			}
			if got := s.Logins(); len(got) != 1 || got[0].User != "kscUser" || got[0].Session == (method == "login") {
				t.Errorf("logins %+v", got)
			}
		})
	}
}

func TestPendingSecondFactorCanBeGivenUp(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Accounts[0].TOTP = "276069"
	s := startServer(t, cfg)
	c := newClient(t, s)
	c.session = c.post("Session.StartSession", "", "Authorization", basic("kscUser", "kscPassword", "0")).header.Get("X-KSC-Session")
	c.call("Session.EndSession", "")
	if s.OpenSessions() != 0 {
		t.Error("the session is still there")
	}
}

func TestVirtualServerComesFromItsHeader(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.VirtualServers = []string{"Филиал"}
	cfg.Hosts[1].VirtualServer = "Филиал"
	s := startServer(t, cfg)
	for name, test := range map[string]struct {
		header string
		want   string
		hosts  int // what an unrestricted search sees
	}{
		"known":   {b64("Филиал"), "Филиал", 1},
		"empty":   {"", "", 2},
		"unknown": {b64("other"), "", 2},
		"x":       {"x", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, s)
			r := c.post("Session.StartSession", "", "Authorization", basic("kscUser", "kscPassword", "0"), "X-KSC-VServer", test.header)
			c.session = r.str(t, "PxgRetVal")
			logins := s.Logins()
			if got := logins[len(logins)-1].VirtualServer; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if n := c.call("HostGroup.FindHosts", `{"wstrFilter":"","vecFieldsToReturn":[],"lMaxLifeTime":100}`).num(t, "PxgRetVal"); n != test.hosts {
				t.Errorf("%d hosts, want %d", n, test.hosts)
			}
			only := c.call("HostGroup.FindHosts", `{"wstrFilter":"","vecFieldsToReturn":[],"pParams":{"KLGRP_FIND_FROM_CUR_VS_ONLY":true},"lMaxLifeTime":100}`)
			if n := only.num(t, "PxgRetVal"); n != 1 {
				t.Errorf("%d hosts on the caller's own server", n)
			}
			if test.want != "" {
				if code := c.refused("HostGroup.AddIncident", addBody(hostA, "2026-11-20T17:06:56Z", "{}")); code != codeNotFound {
					t.Errorf("host of the main server: code %d", code)
				}
			}
		})
	}
}

func TestTokenWorksOnceAndThreeMinutes(t *testing.T) {
	t.Parallel()
	clk := newClock()
	cfg := testConfig()
	cfg.Now = clk.now
	s := startServer(t, cfg)
	c := newSession(t, s)
	token := func() string { return c.call("Session.CreateToken", "{}").str(t, "PxgRetVal") }
	use := func(token string) int {
		return newClient(t, s).post("login", "", "Authorization", "KSCT "+token).status
	}
	first, late := token(), token()
	if got := []int{use(first), use(first)}; got[0] != 200 || got[1] != 401 {
		t.Errorf("one-time token: %v", got)
	}
	clk.add(tokenLife + time.Second)
	if got := use(late); got != 401 {
		t.Errorf("late token: %d", got)
	}
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	clk := newClock()
	cfg := testConfig()
	cfg.Now, cfg.SessionIdle = clk.now, 3*time.Minute
	s := startServer(t, cfg)
	c := newSession(t, s)
	for range 3 {
		clk.add(2 * time.Minute)
		c.call("Session.Ping", "{}")
	}
	clk.add(3*time.Minute + time.Second)
	if r := c.post("Session.Ping", "{}"); r.status != http.StatusForbidden {
		t.Errorf("idle for too long: %+v", r)
	}
}

func TestSecretsOfAnAccountAreNotPrinted(t *testing.T) {
	t.Parallel()
	a := Account{User: "u", Password: "s3cret", TOTP: "276069"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, a); strings.Contains(got, "s3cret") || strings.Contains(got, "276069") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestSessionTableIsBounded(t *testing.T) {
	t.Parallel()
	table := newSessionTable()
	first := &session{}
	table.add(first, time.Now())
	for range maxSessions {
		table.add(&session{}, time.Now())
	}
	if len(table.all()) != maxSessions || table.find(first.id) != nil || !first.ended.Load() {
		t.Errorf("%d sessions", len(table.all()))
	}
}
