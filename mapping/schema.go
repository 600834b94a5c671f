package mapping

import (
	_ "embed" // for the schema file
	"slices"
)

//go:embed rules.schema.json
var rulesSchema []byte

// Schema returns the JSON Schema (draft 2020-12) of rule files, for editors and checks before loading.
// The result is the caller's.
func Schema() []byte { return slices.Clone(rulesSchema) }
