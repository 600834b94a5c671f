package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"

	"github.com/edr-bridge/edr-bridge/localagent/firewall"
)

const (
	// eventID is the number of every event: the messages of EventCreate.exe take 1 to 1000.
	eventID = 1
	// maxEvent bounds one event; ReportEvent takes 31,839 characters (learn.microsoft.com, ReportEventW).
	maxEvent = 30000
	// serviceHintMillis is serviceWait as the service manager counts.
	serviceHintMillis = uint32(serviceWait / time.Millisecond)
	// serviceAlive is how often a service that still opens its journal tells the manager that it goes on.
	serviceAlive = serviceWait / 3
)

// serviceInnerCommands are the verbs the service manager and the task scheduler call.
func (a *app) serviceInnerCommands() []*cobra.Command {
	host := &cobra.Command{
		Use:    "host",
		Short:  "Run the bridge for the service manager",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ours, err := svc.IsWindowsService()
			if err != nil {
				return fmt.Errorf("ask who started this process: %w", err)
			}
			if !ours {
				return usagef("only the service manager calls this verb; `edr-bridge run` does the same in a terminal")
			}
			return a.hostService(cmd.Context())
		},
	}
	return []*cobra.Command{host, a.serviceExpireCommand()}
}

// serviceExpireCommand is what the task scheduler runs when an isolation or a block ends (firewall.Firewall.Expire).
func (a *app) serviceExpireCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "expire",
		Short:  "End the isolations and blocks whose time is over",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wall, err := firewall.New(firewall.Config{})
			if err != nil {
				return err
			}
			n, err := wall.Expire(cmd.Context())
			if err != nil {
				return err
			}
			return printOne(a, map[string]int{"removed": n}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d filters removed\n", n)
				return err
			})
		},
	}
}

// hostService is the service: it blocks until the manager stops it or the bridge ends.
func (a *app) hostService(ctx context.Context) error {
	events, err := eventlog.Open(serviceName)
	if err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = events.Close() }()
	argv := []string{serviceName, "run", "--no-input"}
	if a.config != "" {
		argv = append(argv, "--config", a.config)
	}
	h := &serviceHandler{run: func(ctx context.Context, ready func()) int {
		std := stdio{in: strings.NewReader(""), out: &eventWriter{log: events}, err: &eventWriter{log: events}}
		return (&app{std: std, env: environ, ready: ready}).execute(ctx, argv)
	}, ctx: ctx}
	if err := svc.Run(serviceName, h); err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	return nil
}

// serviceHandler lives as long as the service.
type serviceHandler struct {
	ctx context.Context //nolint:containedctx // svc.Handler has no parameter for it
	// run is the bridge; it calls ready once, when it has opened everything, and returns an exit code.
	run func(ctx context.Context, ready func()) int
}

var _ svc.Handler = (*serviceHandler)(nil)

// Execute obeys the service manager until the bridge has ended. A code that is not 0 makes the manager start it again.
func (h *serviceHandler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	// Before a shutdown there is time to drain; at the shutdown itself Windows waits for five seconds.
	const accepts = svc.AcceptStop | svc.AcceptPreShutdown
	pending := svc.Status{State: svc.StartPending, WaitHint: serviceHintMillis}
	status <- pending
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	ended, ready := make(chan int, 1), make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- h.run(ctx, sync.OnceFunc(func() { ready <- struct{}{} })) })
	defer wg.Wait()
	alive := time.NewTicker(serviceAlive)
	defer alive.Stop()
	for stopping := false; ; {
		select {
		case <-ready:
			if stopping {
				continue
			}
			alive.Stop()
			status <- svc.Status{State: svc.Running, Accepts: accepts}
		case <-alive.C:
			pending.CheckPoint++
			status <- pending
		case exit := <-ended:
			if stopping && exit == exitInterrupted {
				exit = exitDone
			}
			status <- svc.Status{State: svc.StopPending}
			return true, uint32(exit)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.PreShutdown:
				stopping = true
				alive.Stop()
				status <- svc.Status{State: svc.StopPending, WaitHint: serviceHintMillis}
				cancel()
			default: // not accepted, so never sent
			}
		}
	}
}

// eventSink is where lines go; *eventlog.Log is one.
type eventSink interface {
	Info(id uint32, text string) error
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
}

// eventWriter turns every line into an event. It is safe for many goroutines.
type eventWriter struct {
	log eventSink
	// mu guards rest, the beginning of a line whose end has not come.
	mu   sync.Mutex
	rest []byte
}

func (w *eventWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	var errs []error
	for {
		end := bytes.IndexByte(w.rest, '\n')
		next := end + 1
		if end < 0 || end > maxEvent {
			if len(w.rest) < maxEvent {
				return len(p), errors.Join(errs...)
			}
			end, next = maxEvent, maxEvent
		}
		errs = append(errs, w.event(strings.TrimRight(string(w.rest[:end]), "\r")))
		w.rest = w.rest[next:]
	}
}

func (w *eventWriter) event(line string) error {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	var head struct {
		Level slog.Level `json:"level"`
	}
	if err := json.Unmarshal([]byte(line), &head); err != nil && strings.HasPrefix(line, "error: ") {
		head.Level = slog.LevelError
	}
	switch {
	case head.Level >= slog.LevelError:
		return w.log.Error(eventID, line)
	case head.Level >= slog.LevelWarn:
		return w.log.Warning(eventID, line)
	default:
		return w.log.Info(eventID, line)
	}
}
