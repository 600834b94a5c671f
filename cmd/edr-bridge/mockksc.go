package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/ksc/ksctest"
)

// mockAccount is the account of the mock. It guards nothing: the mock is for trying things out.
const mockAccount = "lab"

func (a *app) mockKSCCommand() *cobra.Command {
	cfg := ksctest.Config{BackgroundConnection: true}
	var hosts []string
	var certOut string
	var noBackground bool
	var before, after float64
	cmd := &cobra.Command{
		Use:   "mock-ksc",
		Short: "Run a stand-in for Kaspersky Security Center, to try things out",
		Long: `Run a stand-in for the OpenAPI of Kaspersky Security Center: real HTTPS with a certificate of its own, both ways to log in,
incidents that turn into response tasks. It keeps everything in memory. The account is "lab" with password "lab".
Hosts are given as GUID=NAME; without any, every well-formed GUID is taken.`,
		Example: `  edr-bridge mock-ksc --listen 127.0.0.1:13299 --cert-out mock-ksc.pem --host 8910f900-3807-4b97-8a97-d49e73ec5ab1=WS-014
  edr-bridge mock-ksc --fail-before 0.08 --fail-after 0.08 --latency 10ms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Accounts = []ksctest.Account{{User: mockAccount, Password: mockAccount}}
			cfg.BackgroundConnection = !noBackground
			cfg.LenientHosts = len(hosts) == 0
			cfg.Logger = a.logger(4)
			for _, h := range hosts {
				id, name, ok := strings.Cut(h, "=")
				if !ok {
					return usagef("--host %q: want GUID=NAME", h)
				}
				cfg.Hosts = append(cfg.Hosts, mockHost(id, name))
			}
			return a.runMock(cmd, cfg, certOut, before, after)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Address, "listen", "127.0.0.1:13299", "address to listen on; port 0 takes a free one")
	f.StringArrayVar(&hosts, "host", nil, "a managed computer as GUID=NAME; repeat it")
	f.StringVar(&certOut, "cert-out", "", "write the certificate (PEM) to this file, for ksc.ca")
	f.DurationVar(&cfg.TaskDelay, "task-delay", time.Second, "time of each step of a task")
	f.DurationVar(&cfg.Latency, "latency", 0, "time each call takes")
	f.IntVar(&cfg.KeepIncidents, "keep", 0, "keep only so many incidents (0: all)")
	f.BoolVar(&noBackground, "no-background-connection", false, "accept incidents but never make tasks, as without Web Console's service")
	f.Float64Var(&before, "fail-before", 0, "share of calls whose connection is cut before they are carried out, 0 to 1")
	f.Float64Var(&after, "fail-after", 0, "share of calls whose connection is cut after they were carried out, 0 to 1")
	return cmd
}

// mockHost is a managed computer with one name in all places where KSC keeps names.
func mockHost(id, name string) ksctest.Host {
	short, _, _ := strings.Cut(name, ".")
	return ksctest.Host{ID: id, DisplayName: name, NetBIOS: strings.ToUpper(short), FQDN: name, DNSName: short, Status: 29}
}

func (a *app) runMock(cmd *cobra.Command, cfg ksctest.Config, certOut string, before, after float64) error {
	cfg.OnIncident = func(i ksctest.Incident) { a.say("incident %d for %s: %s", i.ID, i.Host, printable(i.Body)) }
	cfg.OnTask = func(t ksctest.Task) { a.say("task %s %q: %s", t.ID, t.Name, t.State) }
	srv, err := ksctest.New(cfg)
	if err != nil {
		return usagef("%w", err)
	}
	for _, f := range []ksctest.Fault{
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: before},
		{Kind: ksctest.FaultReset, Method: "HostGroup.AddIncident", Probability: after, Stored: true},
	} {
		if f.Probability == 0 {
			continue
		}
		if _, err := srv.Faults().Add(f); err != nil {
			return usagef("--fail-before, --fail-after: %w", err)
		}
	}
	if err := srv.Start(cmd.Context()); err != nil {
		return fail(exitFailed, "listen", err, "is the port taken? --listen 127.0.0.1:0 takes a free one")
	}
	defer srv.Close()
	if certOut != "" {
		if err := os.WriteFile(certOut, srv.CertPEM(), 0o600); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	view := struct {
		Address     string `json:"address"`
		Fingerprint string `json:"fingerprint"`
	}{srv.Addr(), srv.Fingerprint()}
	if err := printOne(a, view, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "listening on %s\nfingerprint %s\n", view.Address, view.Fingerprint)
		return err
	}); err != nil {
		return err
	}
	<-cmd.Context().Done()
	return nil
}
