package configs

import _ "embed" // the schema is a file beside this one

//go:embed schema/edr-bridge.schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of the settings file, for editors.
func Schema() []byte { return []byte(schema) }
