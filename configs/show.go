package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Resolved returns the settings as YAML with environment and defaults in place: paths are absolute, secrets are
// references. Loading it gives the same settings.
func (s *Settings) Resolved() ([]byte, error) {
	c := *s
	c.Rules, c.Presets = s.absolutePatterns(s.Rules), s.absolutePatterns(s.Presets)
	options := []yaml.EncodeOption{
		yaml.IndentSequence(true),
		yaml.CustomMarshaler(func(d time.Duration) ([]byte, error) { return []byte(show(d)), nil }),
	}
	out, err := yaml.MarshalWithOptions(&c, options...)
	if err != nil {
		return nil, fmt.Errorf("show settings: %w", err)
	}
	if len(s.Profiles) == 0 {
		return out, nil
	}
	ksc, err := yaml.MarshalWithOptions(map[string]any{"ksc": s.Profiles}, options...)
	if err != nil {
		return nil, fmt.Errorf("show settings: %w", err)
	}
	return append(out, ksc...), nil
}

func (s *Settings) absolutePatterns(patterns []string) []string {
	out := make([]string, 0, len(patterns))
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) && s.places.base != "" {
			pattern = filepath.Join(literalGlob(s.places.base), pattern)
		}
		out = append(out, pattern)
	}
	return out
}

// Digest returns the SHA-256 of Resolved in hex: equal for settings that mean the same.
func (s *Settings) Digest() (string, error) {
	out, err := s.Resolved()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(out)
	return hex.EncodeToString(sum[:]), nil
}

// show prints a duration as people write it: 15m, not 15m0s.
func show[T int | time.Duration | Size](v T) string {
	if size, ok := any(v).(Size); ok {
		text, err := size.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	d, ok := any(v).(time.Duration)
	if !ok {
		return fmt.Sprint(v)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
