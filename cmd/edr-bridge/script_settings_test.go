package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// settings [ksc] [profiles] [pubsub] [stream] [FILE] writes edr-bridge.yaml: the connections named, then the file, and makes it the
// one the program reads.
func (s *stage) settings(ts *testscript.TestScript, args []string) error {
	var b, sources, servers strings.Builder
	b.WriteString("version: 1\n")
	for _, part := range args {
		switch part {
		case "ksc":
			fmt.Fprintf(&b, "ksc: {address: %q, ca: klserver.cer, user: svc-edr, password: \"secret:ksc/password\", timeout: 1s, settle_time: 1s}\n", ts.Getenv("KSC"))
		case "profiles": // a KSC that is there and one that is not
			for name, address := range map[string]string{"main": ts.Getenv("KSC"), "branch": "127.0.0.1:1"} {
				fmt.Fprintf(&servers, "  %s: {address: %q, ca: klserver.cer, user: svc-edr, timeout: 1s, settle_time: 1s}\n", name, address)
			}
		case "pubsub":
			fmt.Fprintf(&sources, "  legacy: {type: redis-pubsub, address: %q, channel: high_severity_alerts, preset: python-edr}\n", ts.Getenv("REDIS"))
		case "stream":
			fmt.Fprintf(&sources, "  bus: {type: redis-stream, address: %q, stream: alerts, preset: python-edr}\n", ts.Getenv("REDIS"))
		default:
			b.WriteString(ts.ReadFile(part))
		}
	}
	if servers.Len() > 0 {
		b.WriteString("ksc:\n" + servers.String())
	}
	if sources.Len() > 0 {
		b.WriteString("sources:\n" + sources.String())
	}
	path := filepath.Join(s.work, "edr-bridge.yaml")
	ts.Setenv("EDR_BRIDGE_CONFIG", path)
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// secret FILE VALUE writes a file that only its owner may read; VALUE may be $PASSWORD, $WRONG_PASSWORD or $PASSPHRASE. It belongs into
// credentials/, where the search for secrets does not look.
func (s *stage) secret(_ *testscript.TestScript, args []string) error {
	if len(args) != 2 || !strings.HasPrefix(args[0], "credentials/") {
		return errors.New("usage: secret credentials/NAME VALUE")
	}
	return s.writeSecret(args[0], args[1])
}

// json [-stderr] PATH WANT looks into the JSON of the last program: names and indices with dots between them, len for a length. Of several
// documents in a row, as jsonl prints them, the first name is an index.
func (s *stage) json(ts *testscript.TestScript, args []string) error {
	stream := "stdout"
	if len(args) > 0 && args[0] == "-stderr" {
		stream, args = "stderr", args[1:]
	}
	if len(args) != 2 {
		return errors.New("usage: json [-stderr] PATH WANT")
	}
	got, err := jsonAt(ts.ReadFile(stream), args[0])
	if err == nil && got != args[1] {
		err = fmt.Errorf("%s is %q, want %q", args[0], got, args[1])
	}
	return err
}

// save NAME PATH puts a value of the JSON of the last program into a variable.
func (s *stage) save(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: save NAME PATH")
	}
	got, err := jsonAt(ts.ReadFile("stdout"), args[1])
	if err == nil {
		ts.Setenv(args[0], got)
	}
	return err
}

func jsonAt(text, path string) (string, error) {
	var docs []any
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var doc any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("no JSON: %w", err)
		}
		docs = append(docs, doc)
	}
	var at any = docs
	if len(docs) == 1 {
		at = docs[0]
	}
	for name := range strings.SplitSeq(path, ".") {
		next, err := jsonStep(at, name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		at = next
	}
	if s, ok := at.(string); ok {
		return s, nil
	}
	out, err := json.Marshal(at)
	return string(out), err
}

func jsonStep(at any, name string) (any, error) {
	switch v := at.(type) {
	case map[string]any:
		next, ok := v[name]
		if !ok {
			return "", nil // what is empty is left out
		}
		return next, nil
	case []any:
		if name == "len" {
			return len(v), nil
		}
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= len(v) {
			return nil, fmt.Errorf("no element %s of %d", name, len(v))
		}
		return v[i], nil
	default:
		return nil, fmt.Errorf("no %s in %v", name, at)
	}
}

// samePost wants two files (stdout is one) to be equal byte for byte but for the moment they were made at and a line end at the end.
func (s *stage) samePost(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: samepost FILE FILE")
	}
	moment := regexp.MustCompile(`"datetime","value":"[0-9-]{10}T[0-9:]{8}Z"`)
	var texts [2]string
	for i, name := range args {
		text := strings.TrimSuffix(ts.ReadFile(name), "\n")
		if len(moment.FindAllString(text, -1)) != 1 {
			return fmt.Errorf("%s holds no moment:\n%s", name, text)
		}
		texts[i] = moment.ReplaceAllString(text, `"datetime","value":"…"`)
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		return fmt.Errorf("(-%s +%s):\n%s", args[0], args[1], diff)
	}
	return nil
}

// oneLine FILE [N] wants a file (stdout and stderr are some) without characters that move the cursor or change the reading direction, and of
// N lines when N is given.
func (s *stage) oneLine(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("usage: oneline FILE [N]")
	}
	text := ts.ReadFile(args[0])
	for i, line := range strings.Split(text, "\n") {
		if at := strings.IndexFunc(line, hostileRune); at >= 0 {
			return fmt.Errorf("line %d of %s holds a raw control character: %q", i+1, args[0], line)
		}
	}
	if text == "" {
		return fmt.Errorf("%s is empty", args[0])
	}
	if len(args) == 2 {
		return same("lines", strings.Count(text, "\n"), args[1])
	}
	return nil
}

// hostileRune knows the characters by their ranges, not by the program's own table.
func hostileRune(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x061c || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069 || r == 0xfeff || r >= 0xe0000 && r <= 0xe007f
}
