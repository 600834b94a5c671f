package vault

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	metaName    = "meta.json"
	blobName    = "blob"
	tempPrefix  = ".tmp-"
	metaVersion = 1
	// maxMeta bounds meta.json: 512 KiB of extended attributes in base64, some 10 000 names of them as JSON, and the rest.
	maxMeta  = 4 << 20
	idLength = 36
)

// Item describes one sealed copy.
type Item struct {
	// ID is the name of the item in the vault, a UUID derived from order, task and path: the same order has the same item.
	ID string `json:"id"`
	// Order is the id of the order, Task getFile (the original stayed) or quarantineFile (it was taken away).
	Order string      `json:"order"`
	Task  bridge.Kind `json:"task"`
	// Path is where the file was found. It comes from outside: show it with care. RawPath are its bytes when it is not UTF-8, which
	// JSON cannot hold.
	Path    string `json:"path"`
	RawPath []byte `json:"raw_path,omitempty"`
	// MD5 and SHA256 are lower-case hex digests of the content, Size its bytes.
	MD5    string `json:"md5"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Links is how many names the file had; more than 1 means that the content exists elsewhere.
	Links uint64 `json:"links"`
	// Sealed is when the copy was made.
	Sealed time.Time `json:"sealed"`
	// Attributes are what Restore gives back, Lost what could not be kept of them, in words.
	Attributes files.Attributes `json:"attributes"`
	Lost       []string         `json:"lost,omitempty"`
	// Restored is when and where it was last restored; zero and empty = never.
	Restored   time.Time `json:"restored,omitzero"`
	RestoredTo string    `json:"restored_to,omitempty"`
}

// metaFile is the form of meta.json: MAC is HMAC-SHA-256 over the compact form of Item, in hex.
type metaFile struct {
	Version int             `json:"version"`
	Item    json.RawMessage `json:"item"`
	MAC     string          `json:"mac"`
}

// newID derives the id of an item: the hex digits of a UUID of version 8 (RFC 9562) over length-prefixed fields.
func newID(order string, kind bridge.Kind, path string) string {
	h := sha256.New()
	for _, f := range []string{order, string(kind), path} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(f), f)
	}
	b := h.Sum(nil)[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	x := hex.EncodeToString(b)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// checkID takes what newID makes and nothing that could be a path.
func checkID(id string) error {
	digits := strings.ReplaceAll(id, "-", "")
	if len(id) != idLength || len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" ||
		id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return fmt.Errorf("%q is no id of an item: %w", id, ErrNotFound)
	}
	return nil
}

func encodeMeta(key []byte, it *Item) ([]byte, error) {
	if !utf8.ValidString(it.Path) {
		raw := *it
		raw.RawPath = []byte(it.Path)
		it = &raw
	}
	doc, err := json.Marshal(it)
	if err != nil {
		return nil, fmt.Errorf("describe the copy: %w", err)
	}
	mac, err := metaMAC(key, doc)
	if err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(metaFile{metaVersion, doc, hex.EncodeToString(mac)}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describe the copy: %w", err)
	}
	if len(out) > maxMeta {
		return nil, fmt.Errorf("describe the copy: %d bytes, allowed are %d", len(out), maxMeta)
	}
	return append(out, '\n'), nil
}

// decodeMeta reads meta.json strictly; what was changed in it after it was written is ErrDamaged.
func decodeMeta(key, doc []byte, id string) (Item, error) {
	if err := bridge.CheckJSON(doc); err != nil {
		return Item{}, fmt.Errorf("%s: %w: %w", metaName, ErrDamaged, err)
	}
	var m metaFile
	if err := strict(doc, &m); err != nil {
		return Item{}, fmt.Errorf("%s: %w: %w", metaName, ErrDamaged, err)
	}
	if m.Version != metaVersion {
		return Item{}, fmt.Errorf("%s has version %d, this program knows %d: use a newer one", metaName, m.Version, metaVersion)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.Item); err != nil {
		return Item{}, fmt.Errorf("%s: %w: %w", metaName, ErrDamaged, err)
	}
	want, err := metaMAC(key, compact.Bytes())
	if err != nil {
		return Item{}, err
	}
	if has, err := hex.DecodeString(m.MAC); err != nil || !hmac.Equal(has, want) {
		return Item{}, fmt.Errorf("%s: its seal does not fit: %w", metaName, ErrDamaged)
	}
	var it Item
	if err := strict(m.Item, &it); err != nil {
		return Item{}, fmt.Errorf("%s: %w: %w", metaName, ErrDamaged, err)
	}
	if it.ID != id {
		return Item{}, fmt.Errorf("%s describes another item: %w", metaName, ErrDamaged)
	}
	if it.RawPath != nil {
		it.Path = string(it.RawPath)
	}
	return it, nil
}

func metaMAC(key, doc []byte) ([]byte, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "edr-bridge quarantine meta 1", keySize)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, derived)
	h.Write(doc)
	return h.Sum(nil), nil
}

func strict(doc []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// item reads the description of an item.
func (v *Vault) item(key []byte, id string) (Item, error) {
	doc, err := files.ReadOwn(filepath.Join(v.itemDir(id), metaName), maxMeta+1)
	if errors.Is(err, fs.ErrNotExist) {
		return Item{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Item{}, err
	}
	return decodeMeta(key, doc, id)
}

// List returns the items, the oldest first. Items that cannot be read are left out and told in the error, which comes
// together with the others.
func (v *Vault) List(ctx context.Context) ([]Item, error) {
	key, err := v.ready(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := v.ids()
	if err != nil {
		return nil, err
	}
	var items []Item
	var errs []error
	for _, id := range ids {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("list the quarantine: %w", cause)
		}
		it, err := v.item(key, id)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		default:
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b Item) int {
		if c := a.Sealed.Compare(b.Sealed); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return items, errors.Join(errs...)
}

// Show returns one item; the error wraps ErrNotFound or ErrDamaged.
func (v *Vault) Show(ctx context.Context, id string) (Item, error) {
	if err := checkID(id); err != nil {
		return Item{}, err
	}
	key, err := v.ready(ctx)
	if err != nil {
		return Item{}, err
	}
	return v.item(key, id)
}

// IDs returns the ids of all items, of damaged ones too.
func (v *Vault) IDs(ctx context.Context) ([]string, error) {
	if _, err := v.ready(ctx); err != nil {
		return nil, err
	}
	return v.ids()
}

// ids lists what looks like an item.
func (v *Vault) ids() ([]string, error) {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && checkID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
