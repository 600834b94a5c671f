package mapping

import (
	_ "embed" // for the schema files
	"slices"
)

//go:embed rules.schema.json
var rulesSchema []byte

//go:embed presets.schema.json
var presetsSchema []byte

// Schema returns the JSON Schema (draft 2020-12) of rule files, for editors and checks before loading.
// The result is the caller's.
func Schema() []byte { return slices.Clone(rulesSchema) }

// PresetSchema returns the JSON Schema (draft 2020-12) of preset files, for editors and checks before loading.
// The result is the caller's.
func PresetSchema() []byte { return slices.Clone(presetsSchema) }
