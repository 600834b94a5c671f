package kuma

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	restMaxRows = 10_000
	restMaxCell = 4 << 10
)

// ListImport is a set of records for an active list. Records with a key the list has replace the old ones; the list is never cleared.
type ListImport struct {
	// Correlator is the id of the correlator service, whose list it is; it must be running.
	Correlator string
	// List is the name of the active list, or its id when it is a UUID.
	List string
	// KeyField is the one of Fields whose value names a record.
	KeyField string
	Fields   []string
	// Rows have a value for each field, 1 to 10,000 rows.
	Rows [][]string
}

// ImportActiveList writes records to an active list, all or none. Repeating it changes nothing.
//
// KUMA: POST activeLists/import, support.kaspersky.com/kuma/3.0.3/269915.
func (c *Client) ImportActiveList(ctx context.Context, in ListImport) error {
	if err := in.check(); err != nil {
		return err
	}
	var body bytes.Buffer
	w := csv.NewWriter(&body)
	if err := w.WriteAll(append([][]string{in.Fields}, in.Rows...)); err != nil {
		return err
	}
	name := "activeListName"
	if restUUID(in.List) {
		name = "activeListID"
	}
	query := url.Values{"correlatorID": {in.Correlator}, name: {in.List}, "format": {"csv"}, "keyField": {in.KeyField}}
	_, err := c.call(ctx, restRequest{
		method: http.MethodPost, path: restListImport, query: query.Encode(), contentType: "text/csv", body: body.Bytes(),
	})
	return err
}

func (in ListImport) check() error {
	switch {
	case !restUUID(in.Correlator):
		return restArgument("active list: correlator %.60q is not a UUID", in.Correlator)
	case in.List == "" || len(in.List) > restMaxName || restVisible(in.List) != in.List:
		return restArgument("active list: name is empty, too long or holds control characters")
	case !slices.Contains(in.Fields, in.KeyField):
		return restArgument("active list: key field %.60q is not among the fields", in.KeyField)
	case len(in.Rows) == 0 || len(in.Rows) > restMaxRows:
		return restArgument("active list: 1 to %d rows in one import, not %d", restMaxRows, len(in.Rows))
	}
	seen := map[string]bool{}
	key := slices.Index(in.Fields, in.KeyField)
	for _, row := range append([][]string{in.Fields}, in.Rows...) {
		if len(row) != len(in.Fields) {
			return restArgument("active list: a row has %d values for %d fields", len(row), len(in.Fields))
		}
		for i, cell := range row {
			if err := checkCell(in.Fields[i], cell); err != nil {
				return err
			}
		}
		if row[key] == "" || seen[row[key]] {
			return restArgument("active list: key %.60q is empty or stands twice", row[key])
		}
		seen[row[key]] = true
	}
	return nil
}

// checkCell keeps every record on one line, and out of it what a spreadsheet the list is exported to would compute.
func checkCell(field, cell string) error {
	switch {
	case len(cell) > restMaxCell:
		return restArgument("active list: value of %.60q is longer than %d bytes", field, restMaxCell)
	case restVisible(cell) != cell:
		return restArgument("active list: value of %.60q holds control characters", field)
	case cell != "" && strings.ContainsRune("=+-@", rune(cell[0])):
		return restArgument("active list: value of %.60q begins like a formula", field)
	default:
		return nil
	}
}
