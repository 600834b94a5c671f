package configs

import (
	"reflect"
	"strings"
)

const (
	envPrefix      = "EDR_BRIDGE_"
	configVariable = envPrefix + "CONFIG"
)

// EnvVar is one environment variable the settings are read from.
type EnvVar struct {
	// Name is what it is called, Path the setting it overrides; empty for variables that are no setting.
	Name, Path string
	// Meaning is one line for people.
	Meaning string
	// Sensitive says that its value must not be printed.
	Sensitive bool
}

// EnvVars returns the table of all environment variables that package reads, in the order of the documentation. A
// variable that is set but empty counts as not set.
func EnvVars() []EnvVar {
	setting := func(path, meaning string) EnvVar {
		return EnvVar{Name: envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_")), Path: path, Meaning: meaning}
	}
	vars := []EnvVar{
		{Name: configVariable, Meaning: "path of the settings file"},
		setting("mode", "ceiling for the mode of every rule"),
		setting("fallback", "none or local, when KSC cannot be reached"),
		setting("ksc.address", "host:port of KSC"),
		setting("ksc.ca", "absolute path of the certificate of KSC or its authority"),
		setting("ksc.system_roots", "true: trust what the operating system trusts"),
		setting("ksc.insecure", "true: check no certificate"),
		setting("ksc.user", "account at KSC"),
		setting("ksc.password", "reference to its password (secret:ksc/password), never the password"),
		setting("ksc.internal", "true: an internal user of KSC"),
		setting("ksc.domain", "Windows domain of the account"),
		setting("ksc.domain_encoding", "plain or base64"),
		setting("ksc.virtual_server", "name of a virtual Administration Server"),
		setting("ksc.in_flight", "requests at once"),
		setting("ksc.timeout", "bound of one attempt of one call"),
		setting("ksc.settle_time", "wait before the second search for an undecided incident"),
		setting("local.enabled", "true: the local agent may act"),
		setting("local.dry_run", "true: the local agent only says what it would do"),
		setting("local.state", "absolute path of the state directory"),
		setting("local.grace", "time between SIGTERM and SIGKILL"),
		setting("dedupe.for", "default window of the rules' dedupe"),
		setting("secrets.backend", "where secrets are kept"),
		setting("secrets.dir", "absolute path of the encrypted files"),
		setting("secrets.passphrase_file", "absolute path of the file with their passphrase"),
		setting("secrets.keyctl_scope", "user or session"),
		setting("log.level", "debug, info, warn or error"),
		setting("log.format", "auto, text or json"),
	}
	for _, name := range vendorVariables() {
		vars = append(vars, EnvVar{Name: name.name, Meaning: name.meaning, Sensitive: name.name == kscPassword})
	}
	for i := range vars {
		vars[i].Sensitive = vars[i].Sensitive || vars[i].Path == "ksc.password"
	}
	return vars
}

// override puts the environment over the file.
func (s *Settings) override(env func(string) (string, bool)) []Problem {
	var problems []Problem
	for _, v := range EnvVars() {
		text, ok := env(v.Name)
		if v.Path == "" || !ok || text == "" {
			continue
		}
		if err := setScalar(s.field(v.Path), text, ""); err != nil {
			problems = append(problems, Problem{File: v.Name, Path: v.Path, Message: err.Error()})
		}
		s.places.set(v.Path, v.Name)
	}
	return problems
}

func (p *places) set(path, env string) {
	if p.at == nil {
		p.at = make(map[string]place)
	}
	p.at[path] = place{env: env}
}

// field returns the field with the path of the table; what encloses it is made.
func (s *Settings) field(path string) reflect.Value {
	v := reflect.ValueOf(s).Elem()
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v, _ = fieldByName(v, name)
	}
	return v
}
