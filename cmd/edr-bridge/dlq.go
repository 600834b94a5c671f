package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/configs"
)

// letterView is a dead letter as the command line shows it.
type letterView struct {
	ID       string `json:"id"`
	Where    string `json:"where"` // store, redis, or both
	Source   string `json:"source"`
	Entry    string `json:"entry,omitempty"`
	Error    string `json:"error"`
	Attempts int    `json:"attempts"`
	Size     int    `json:"bytes"`
	First    string `json:"first"`
	Last     string `json:"last"`
	Retry    string `json:"retry,omitempty"`
	By       string `json:"by,omitempty"`
	// Document is the text, or Base64 the bytes of one that is no text.
	Document string `json:"document,omitempty"`
	Base64   string `json:"document_base64,omitempty"`
}

// Where a dead letter is kept.
const (
	inStore = "store"
	inRedis = "redis"
	inBoth  = "both"
)

func viewLetter(l bridge.DeadLetter, where string) letterView {
	return letterView{
		ID: l.ID, Where: where, Source: l.Source, Entry: l.Entry, Error: l.Error, Attempts: l.Attempts, Size: len(l.Document),
		First: stamp(l.First), Last: stamp(l.Last), Retry: stamp(l.Retry), By: l.By,
	}
}

func (a *app) dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters: alerts that could not be read",
		Long: `A document that cannot be read is kept byte for byte in the store, and, when it came from a Redis stream, in the dead-letter
stream beside it. retry reads it once more, by the presets and rules of today; drop deletes it in both places. Orders that came to
nothing are not dead letters: edr-bridge tasks list --state failed, tasks retry.`,
		Example: `  edr-bridge dlq list
  edr-bridge dlq show l5d2f
  edr-bridge dlq retry l5d2f
  edr-bridge dlq drop l5d2f --reason "test of the sensor team"`,
	}
	cmd.AddCommand(a.dlqListCommand(), a.dlqShowCommand(), a.dlqRetryCommand(), a.dlqDropCommand())
	return cmd
}

func (a *app) dlqListCommand() *cobra.Command {
	var source string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d: want at least 1", limit)
			}
			d, w, done, err := a.openPost(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer done()
			letters, err := allLetters(cmd.Context(), d)
			if err != nil {
				return err
			}
			views := w.joinLetters(cmd.Context(), letters)
			views = slices.DeleteFunc(views, func(v letterView) bool { return source != "" && v.Source != source })
			if len(views) > limit {
				a.say("%d more: raise --limit", len(views)-limit)
				views = views[:limit]
			}
			return printResult(a, views, []string{"LETTER", "SOURCE", "WHERE", "ATTEMPTS", "BYTES", "LAST", "WHY"}, func(v letterView) []string {
				why := v.Error
				if v.Retry != "" {
					why = "retry asked for by " + v.By + "; " + why
				}
				return []string{v.ID, v.Source, v.Where, strconv.Itoa(v.Attempts), strconv.Itoa(v.Size), v.Last, why}
			})
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "only letters of this source")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

// openPost opens what the verbs about dead letters need: the desk, and the settings to find Redis by. A verb that only looks
// is shown a damaged store as well.
func (a *app) openPost(ctx context.Context, look bool) (bridge.Desk, *wiring, func(), error) {
	w, err := a.open()
	if err != nil {
		return nil, nil, nil, err
	}
	redisbus.SetLogger(w.log)
	w.look = look
	d, err := w.desk(ctx)
	if err != nil {
		w.close()
		return nil, nil, nil, err
	}
	return d, w, w.close, nil
}

func allLetters(ctx context.Context, d bridge.Desk) ([]bridge.DeadLetter, error) {
	var all []bridge.DeadLetter
	page := bridge.Page{Limit: pageSize}
	for {
		letters, next, err := d.Letters(ctx, page)
		if err != nil || len(letters) == 0 {
			return all, err
		}
		all, page = append(all, letters...), next
	}
}

// redisTimeout bounds how long dlq waits for Redis: its answer completes the picture, it is not the picture.
const redisTimeout = 3 * time.Second

// joinLetters adds what the dead-letter streams hold. Letters that Redis alone has were refused before the bridge read
// them, or belong to another bridge.
func (w *wiring) joinLetters(ctx context.Context, letters []bridge.DeadLetter) []letterView {
	views := make([]letterView, 0, len(letters))
	at := map[string]int{}
	for _, l := range letters {
		at[l.ID] = len(views)
		views = append(views, viewLetter(l, inStore))
	}
	err := w.eachRedisLetter(ctx, func(_ *redisbus.DeadLetters, d redisbus.DeadLetter) (bool, error) {
		id := letterID(d)
		if i, known := at[id]; known {
			if views[i].Where == inStore {
				views[i].Where = inBoth
			}
			return true, nil // two sources may share a stream, and a letter may stand there twice
		}
		at[id] = len(views)
		views = append(views, viewLetter(ofRedis(d), inRedis))
		return true, nil
	})
	if err != nil {
		w.app.say("Redis was not asked to the end: %v", err)
	}
	return views
}

// letterID is the id under which the store knows a letter of Redis.
func letterID(d redisbus.DeadLetter) string { return bridge.LetterID(d.Source, d.EntryID, d.Document) }

func ofRedis(d redisbus.DeadLetter) bridge.DeadLetter {
	return bridge.DeadLetter{
		ID: letterID(d), Source: d.Source, Entry: d.EntryID, Document: d.Document, Error: d.Error, Attempts: d.Attempts, First: d.First, Last: d.Last,
	}
}

// eachRedisLetter walks over the dead-letter streams of all sources until visit says false.
func (w *wiring) eachRedisLetter(ctx context.Context, visit func(*redisbus.DeadLetters, redisbus.DeadLetter) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(w.set.Sources)) {
		if s := w.set.Sources[name]; s.Type == configs.RedisStream {
			errs = append(errs, w.walkRedis(ctx, s, visit))
		}
	}
	return errors.Join(errs...)
}

func (w *wiring) walkRedis(ctx context.Context, s *configs.Source, visit func(*redisbus.DeadLetters, redisbus.DeadLetter) (bool, error)) error {
	opts, err := w.redisOptions(s)
	if err != nil {
		return err
	}
	box, err := redisbus.NewDeadLetters(opts, s.DeadLetter, "")
	if err != nil {
		return err
	}
	defer func() { _ = box.Close() }()
	for after := ""; ; {
		page, err := box.List(ctx, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, d := range page {
			if more, err := visit(box, d); err != nil || !more {
				return err
			}
		}
		after = page[len(page)-1].ID
	}
}

// dropInRedis deletes the letter in the dead-letter streams, however often it stands there.
func (w *wiring) dropInRedis(ctx context.Context, id string) (int, error) {
	dropped := 0
	err := w.eachRedisLetter(ctx, func(box *redisbus.DeadLetters, d redisbus.DeadLetter) (bool, error) {
		if letterID(d) != id {
			return true, nil
		}
		if err := box.Drop(ctx, d.ID); err != nil && !errors.Is(err, redisbus.ErrNoLetter) {
			return false, err
		}
		dropped++
		return true, nil
	})
	return dropped, err
}

func (a *app) dlqShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show LETTER",
		Short: "Show a dead letter with its document",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, w, done, err := a.openPost(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer done()
			letter, where, err := w.findLetter(cmd.Context(), d, args[0])
			if err != nil {
				return err
			}
			v := viewLetter(letter, where)
			if utf8.Valid(letter.Document) {
				v.Document = string(letter.Document)
			} else {
				v.Base64 = base64.StdEncoding.EncodeToString(letter.Document)
			}
			return printOne(a, v, func(out io.Writer) error { return writeLetter(out, v) })
		},
	}
}

// findLetter looks in the store, then in Redis.
func (w *wiring) findLetter(ctx context.Context, d bridge.Desk, id string) (bridge.DeadLetter, string, error) {
	letter, err := d.Letter(ctx, id)
	if err == nil || !errors.Is(err, bridge.ErrNotFound) || id == "" {
		return letter, inStore, deskError(err, "letter", "edr-bridge dlq list")
	}
	var found []bridge.DeadLetter
	rerr := w.eachRedisLetter(ctx, func(_ *redisbus.DeadLetters, r redisbus.DeadLetter) (bool, error) {
		l := ofRedis(r)
		known := slices.ContainsFunc(found, func(other bridge.DeadLetter) bool { return other.ID == l.ID })
		if strings.HasPrefix(l.ID, id) && !known {
			found = append(found, l)
		}
		return len(found) < 2, nil
	})
	switch {
	case len(found) == 1:
		return found[0], inRedis, nil
	case len(found) > 1:
		return letter, "", deskError(fmt.Errorf("dead letter %q: %w", id, bridge.ErrAmbiguous), "letter", "edr-bridge dlq list")
	case rerr != nil:
		w.app.say("Redis was not asked to the end: %v", rerr)
	}
	return letter, "", deskError(err, "letter", "edr-bridge dlq list")
}

func writeLetter(out io.Writer, v letterView) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"letter", v.ID},
		{"where", v.Where},
		{"source", v.Source},
		{"entry", v.Entry},
		{"why", v.Error},
		{"attempts", strconv.Itoa(v.Attempts)},
		{"first", v.First},
		{"last", v.Last},
		{"retry asked", strings.TrimSpace(v.Retry + " " + v.By)},
		{"bytes", strconv.Itoa(v.Size)},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	text := v.Document
	if v.Base64 != "" {
		text = "base64: " + v.Base64
	}
	// A mark before each line, so that no line of the document can pass for one of the program.
	lines := strings.ReplaceAll(strings.TrimSuffix(printableLines(text), "\n"), "\n", "\n| ")
	_, err := fmt.Fprintf(out, "\n| %s\n", lines)
	return err
}

func (a *app) dlqRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry LETTER…",
		Short: "Have dead letters read once more",
		Long: `Have dead letters read once more by the running bridge, or by the next one that starts. A letter that is admitted is gone
from the list; one that is refused again stays, with one attempt more.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, w, done, err := a.openPost(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer done()
			var views []letterView
			for _, id := range args {
				_, where, err := w.findLetter(cmd.Context(), d, id)
				if err != nil {
					return err
				}
				if where == inRedis {
					return fail(exitRefused, "letter.in_redis", fmt.Errorf("letter %q is in Redis only: this bridge has not refused it", id),
						"edr-bridge dlq show prints it, to be published anew")
				}
				letter, err := d.RetryLetter(cmd.Context(), id, actor())
				if err != nil {
					return deskError(err, "letter", "edr-bridge dlq list")
				}
				// The store has the document; left in Redis it would be read twice by whoever retries there.
				if _, err := w.dropInRedis(cmd.Context(), letter.ID); err != nil {
					a.say("%s stays in Redis too: %v", letter.ID, err)
				}
				views = append(views, viewLetter(letter, inStore))
			}
			return printLetters(a, views)
		},
	}
}

func printLetters(a *app, views []letterView) error {
	return printResult(a, views, []string{"LETTER", "SOURCE", "ATTEMPTS", "LAST", "WHY"}, func(v letterView) []string {
		return []string{v.ID, v.Source, strconv.Itoa(v.Attempts), v.Last, v.Error}
	})
}

func (a *app) dlqDropCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "drop LETTER… --reason TEXT",
		Short: "Delete dead letters in the store and in Redis; there is no undo",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(reason); err != nil {
				return err
			}
			d, w, done, err := a.openPost(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer done()
			var views []letterView
			for _, id := range args {
				letter, where, err := w.findLetter(cmd.Context(), d, id)
				if err != nil {
					return err
				}
				if _, err := w.dropInRedis(cmd.Context(), letter.ID); err != nil {
					return fail(exitUnreachable, "redis", fmt.Errorf("drop in Redis: %w", err), "nothing was dropped in the store; try again")
				}
				if where == inStore {
					if _, err := d.DropLetter(cmd.Context(), letter.ID, actor(), reason); err != nil {
						return deskError(err, "letter", "edr-bridge dlq list")
					}
				}
				views = append(views, viewLetter(letter, where))
			}
			return printLetters(a, views)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record (required)")
	return cmd
}
