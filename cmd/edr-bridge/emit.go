package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/configs"
)

const maxEmit = 1 << 20 // bytes of one alert, as much as a source takes

// officeShellAlert is the alert a simple Python detector publishes when an office program starts a shell.
type officeShellAlert struct {
	Level         string `json:"level"`
	Title         string `json:"title"`
	Description   string `json:"description"`
	Details       string `json:"details"`
	Timestamp     string `json:"timestamp"`
	ActionablePID int    `json:"actionable_pid"`
	SourceIP      string `json:"source_ip,omitempty"`
}

func newOfficeShellAlert(pid int, now time.Time) officeShellAlert {
	return officeShellAlert{
		Level: "HIGH", Title: "suspicious process chain (living off the land)",
		Description: fmt.Sprintf("parent 'winword.exe' started child 'powershell.exe' (PID: %d)", pid),
		Details:     "command line: powershell.exe -nop -w hidden -enc …",
		Timestamp:   now.Local().Format("2006-01-02T15:04:05.000000"), ActionablePID: pid,
	}
}

func (a *app) emitCommand() *cobra.Command {
	var o struct {
		file, redis, channel, stream, ip string
		pid                              int
	}
	cmd := &cobra.Command{
		Use:   "emit [office-shell]",
		Short: "Publish an alert to Redis, to try rules with",
		Long: `Publish one alert: the sample "office-shell" (what a simple Python detector sends when an office program starts a shell), or a
document of your own with --file. It goes to the first Redis source of the settings unless --redis names a server.`,
		Example: `  edr-bridge emit office-shell --pid 4711
  edr-bridge emit --file alert.json --stream alerts
  edr-bridge emit --file - --redis 127.0.0.1:6379 --channel high_severity_alerts < alert.json`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"office-shell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			if len(args) == 1 && args[0] != "office-shell" {
				return usagef("no sample %q%s: there is office-shell", args[0], bridge.DidYouMean(args[0], []string{"office-shell"}))
			}
			doc, err := a.emitDocument(o.file, o.pid, o.ip)
			if err != nil {
				return err
			}
			opts, channel, stream, err := w.emitTarget(o.redis, o.channel, o.stream)
			if err != nil {
				return err
			}
			return a.emit(cmd.Context(), opts, channel, stream, doc)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "the alert to publish instead of the sample; - is standard input")
	f.StringVar(&o.redis, "redis", "", "host:port or unix:///path of the server")
	f.StringVar(&o.channel, "channel", "", "publish to this channel (default high_severity_alerts)")
	f.StringVar(&o.stream, "stream", "", "add to this stream instead")
	f.IntVar(&o.pid, "pid", 0, "the process the sample is about")
	f.StringVar(&o.ip, "ip", "", "the source_ip of the sample")
	return cmd
}

func (a *app) emitDocument(file string, pid int, ip string) ([]byte, error) {
	if file == "" {
		if pid <= 0 {
			return nil, usagef("--pid is required: the process the sample is about (or --file with an alert of your own)")
		}
		alert := newOfficeShellAlert(pid, time.Now())
		alert.SourceIP = ip
		return json.Marshal(alert)
	}
	in := a.std.in
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, usagef("--file: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	doc, err := io.ReadAll(io.LimitReader(in, maxEmit+1))
	if err != nil {
		return nil, fmt.Errorf("read alert: %w", err)
	}
	if len(doc) > maxEmit {
		return nil, usagef("the alert is larger than 1 MiB")
	}
	return doc, nil
}

// emitTarget finds server, channel and stream: flags first, then the first Redis source of the settings.
func (w *wiring) emitTarget(server, channel, stream string) (redisbus.Options, string, string, error) {
	if channel != "" && stream != "" {
		return redisbus.Options{}, "", "", usagef("--channel and --stream: want one of them")
	}
	if server != "" {
		if channel == "" && stream == "" {
			channel = "high_severity_alerts"
		}
		return redisbus.Options{Addresses: []string{server}, AllowOpen: true}, channel, stream, nil
	}
	if len(w.set.Sources) == 0 {
		return redisbus.Options{}, "", "", usagef("no Redis source in the settings: name the server with --redis")
	}
	s := w.set.Sources[slices.Min(slices.Collect(maps.Keys(w.set.Sources)))]
	opts, err := w.redisOptions(s)
	if err != nil {
		return opts, "", "", err
	}
	if channel == "" && stream == "" {
		if s.Type == configs.RedisStream {
			stream = s.Stream
		} else {
			channel = s.Channel
		}
	}
	return opts, channel, stream, nil
}

func (a *app) emit(ctx context.Context, opts redisbus.Options, channel, stream string, doc []byte) error {
	redisbus.SetLogger(a.logger(slog.LevelError))
	pub, err := redisbus.NewPublisher(redisbus.PublisherConfig{Options: opts, Logger: a.logger(0)})
	if err != nil {
		return usagef("%w", err)
	}
	defer func() { _ = pub.Close() }()
	view := struct {
		Channel   string `json:"channel,omitempty"`
		Stream    string `json:"stream,omitempty"`
		Entry     string `json:"entry,omitempty"`
		Receivers int64  `json:"receivers,omitempty"`
		Bytes     int    `json:"bytes"`
	}{Channel: channel, Stream: stream, Bytes: len(doc)}
	if stream != "" {
		view.Channel = ""
		view.Entry, err = pub.Add(ctx, stream, doc, "")
	} else {
		view.Receivers, err = pub.Publish(ctx, channel, doc)
	}
	if errors.Is(err, bridge.ErrNotConnected) {
		return fail(exitUnreachable, "redis.unreachable", err, "is Redis running there? edr-bridge doctor")
	}
	if err != nil {
		return err
	}
	if stream == "" && view.Receivers == 0 {
		a.say("nobody listens on %s: the alert is lost, as Pub/Sub does", channel)
	}
	return printOne(a, view, func(w io.Writer) error {
		if stream != "" {
			_, err := fmt.Fprintf(w, "added to %s as %s\n", stream, view.Entry)
			return err
		}
		_, err := fmt.Fprintf(w, "published on %s, %d receivers\n", channel, view.Receivers)
		return err
	})
}
