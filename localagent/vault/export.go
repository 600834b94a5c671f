package vault

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Form is how Export writes a copy.
type Form string

// The forms. A plain copy is the file as it was: it can be run.
const (
	FormPlain Form = "plain"
	FormZIP   Form = "zip"
	FormAge   Form = "age"
)

// Forms lists the forms.
func Forms() []Form { return []Form{FormPlain, FormZIP, FormAge} }

// Export writes the content of an item to w: as it is, as a ZIP archive with one entry under the file's own name, or encrypted
// to an age recipient ("age1…", age-encryption.org/v1), who alone can open it. recipient is for FormAge only. What was written
// before an error is genuine but not whole: throw it away. Errors wrap ErrNotFound or ErrDamaged.
func (v *Vault) Export(ctx context.Context, id string, form Form, recipient string, w io.Writer) (err error) {
	if (form == FormAge) != (recipient != "") {
		return errors.New("export: a recipient is needed for the form age, and for no other")
	}
	it, blob, done, err := v.openItem(ctx, id, false)
	if err != nil {
		return err
	}
	defer done()
	to, finish, err := envelope(form, recipient, &it, w)
	if err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	if err := copyOut(ctx, to, blob, &it); err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	if err := finish(); err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	return nil
}

// envelope returns where the content goes and what ends it.
func envelope(form Form, recipient string, it *Item, w io.Writer) (io.Writer, func() error, error) {
	switch form {
	case FormPlain:
		return w, func() error { return nil }, nil
	case FormZIP:
		z := zip.NewWriter(w)
		to, err := z.CreateHeader(&zip.FileHeader{Name: it.shownName(), Method: zip.Deflate, Modified: it.Sealed})
		return to, z.Close, err
	case FormAge:
		to, err := age.ParseRecipients(strings.NewReader(recipient))
		if err != nil {
			return nil, nil, fmt.Errorf("recipient: %w", err)
		}
		e, err := age.Encrypt(w, to...)
		if err != nil {
			return nil, nil, err
		}
		return e, e.Close, nil
	default:
		return nil, nil, fmt.Errorf("unknown form %q: want plain, zip or age", form)
	}
}
