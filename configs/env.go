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
		setting("ksc.tasks.hold", "unfinished tasks at KSC before orders wait"),
		setting("ksc.tasks.keep", "more of them for isolateHost alone"),
		setting("ksc.tasks.per", "server or host: which unfinished tasks count together"),
		setting("ksc.tasks.follow_every", "how often KSC is asked what became of accepted orders"),
		setting("ksc.tasks.follow_for", "how long an accepted order may stay unconfirmed"),
		setting("local.enabled", "true: the local agent may act"),
		setting("local.dry_run", "true: the local agent only says what it would do"),
		setting("local.state", "absolute path of the state directory"),
		setting("local.grace", "time between SIGTERM and SIGKILL"),
		setting("dedupe.for", "default window of the rules' dedupe"),
		setting("inventory.hosts", "how many hosts there are, for limits with a share"),
		setting("approvals.timeout", "how long an order waits for approval"),
		setting("approvals.four_eyes", "true: who asked for an order cannot approve it"),
		setting("approvals.ask_every", "how often approval may be asked for about one host"),
		setting("damping.max", "isolations and releases of one host before the next is held"),
		setting("damping.within", "the time in which they count"),
		setting("undo.max", "isolations of rules that people may take back before the hold is latched"),
		setting("undo.per", "the time in which they count"),
		setting("leases.default", "how long a host stays isolated when the order does not say"),
		setting("leases.product_off", "after how long the product ends an isolation by itself; 0s: never"),
		setting("leases.on_product_off", "reassert or record"),
		setting("give_up", "how long the search for the outcome of an order may go on"),
		setting("audit.key", "reference to the key of the audit chain (secret:audit/key), never the key"),
		setting("audit.anchor_every", "how often the end of the audit chain is noted outside of the store; 0s: never"),
		setting("audit.anchor_file", "absolute path of a file it is also appended to"),
		setting("audit.keep", "how long audit records stay in the store; 0s: for ever"),
		setting("audit.archive", "absolute path of the directory they move to"),
		setting("metrics.listen", "loopback host:port of the page with metrics and health"),
		setting("api.enabled", "false: no control socket"),
		setting("api.socket", "absolute path of the control socket"),
		setting("api.group", "Unix group that may use the control socket"),
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
		vars[i].Sensitive = vars[i].Sensitive || vars[i].Path == "ksc.password" || vars[i].Path == "audit.key"
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
