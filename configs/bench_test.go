package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Load is on the way of every verb: 1 ms is the budget for a small file.
func BenchmarkLoad(b *testing.B) {
	full, err := os.ReadFile("samples/full.yaml")
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{"small": small, "full": string(full), "none": ""} {
		b.Run(name, func(b *testing.B) {
			path := ""
			if text != "" {
				path = filepath.Join(b.TempDir(), "edr-bridge.yaml")
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(path, noEnv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The loader neither panics nor shows what stands behind a password, and what it takes it takes again.
func FuzzSettings(f *testing.F) {
	samples, err := filepath.Glob("samples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range samples {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, text := range []string{
		small, "version: 1\n", "", "a: &x [*x]\n", "version: 1\nksc: {password: " + canary + "}\n", "? a\n: b\n", "<<: {a: b}", "- - - a",
		"version: 1\nsources: {a: {type: kuma-http, token: x}}", "{a: {b: [c, {d: e}]}}", "a: |\n  b\n c", "---\n...\n---\n", "%YAML 1.2\n---\na: b",
		"version: 1\nksc:\n  password: >-\n    " + canary + "\n   x: [", "\xff\xfe", "a: \"\\ud800\"", "version: 1\nmax_age: {pid: 9999999999h}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return
		}
		s, err := build("x.yaml", "/etc/x", []byte(text), noEnv)
		if err != nil {
			own, ok := errors.AsType[*Error](err)
			if !ok || len(own.Problems) == 0 {
				t.Fatalf("%T %v", err, err)
			}
			for _, p := range own.Problems {
				if strings.ContainsAny(p.Excerpt, "\x1b\x00") || p.Line > len(splitLines([]byte(text)))+1 {
					t.Fatalf("%+v", p)
				}
			}
			return
		}
		out, err := s.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		again, err := build("y.yaml", "/etc/y", out, noEnv)
		if err != nil {
			t.Fatalf("%v\nof\n%s", err, out)
		}
		if second, err := again.Resolved(); err != nil || string(second) != string(out) {
			t.Fatalf("%v\n%s\n%s", err, out, second)
		}
	})
}
