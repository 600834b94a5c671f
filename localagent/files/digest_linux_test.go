package files

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// touchy changes the ctime of a file, not its content, the first times it is asked whether to go on.
type touchy struct {
	context.Context
	touch func()
	left  int
}

func (c *touchy) Err() error {
	if c.left > 0 {
		c.left--
		c.touch()
	}
	return c.Context.Err()
}

func TestDigestOfAnImageWhoseLinksChangeIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		changes int
		want    error
	}{
		{"once", 1, nil},
		{"for ever", 1 << 20, ErrChanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, other := filepath.Join(dir, "image"), filepath.Join(dir, "link")
			if err := os.WriteFile(path, []byte("image"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			touch := func() {
				// The stamp of a file is no finer than the kernel's tick: touched until it has moved.
				before, _, _ := KeyOf(f)
				for now := before; now == before; now, _, _ = KeyOf(f) {
					_ = os.Link(path, other)
					_ = os.Remove(other)
				}
			}
			var c Cache
			got, err := c.Of(&touchy{t.Context(), touch, tt.changes}, f, true, false)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if want := "78805a221a988e79ef3f42d7c5bfd418"; err == nil && got.MD5 != want {
				t.Errorf("got %s, want %s", got.MD5, want)
			}
		})
	}
}
