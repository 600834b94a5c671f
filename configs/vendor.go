package configs

import (
	"log/slog"
	"maps"
	"strconv"
	"strings"
)

// The names in the connection block of Kaspersky's scripts (support.kaspersky.com/help/KUMA/3.4/en-US/300739.htm).
const (
	kscHost     = "kscHost"
	kscPort     = "kscPort"
	kscUser     = "kscUser"
	kscPassword = "kscPassword"
	kscCert     = "kscCert"
)

type vendorVariable struct{ name, meaning string }

func vendorVariables() []vendorVariable {
	return []vendorVariable{
		{kscHost, "host of KSC, where the settings name none"},
		{kscPort, "its port, default 13299"},
		{kscUser, "account at KSC"},
		{kscPassword, "its password, where no stored secret is found; better: edr-bridge secrets set ksc/password"},
		{kscCert, "path of the certificate of KSC, or False: check no certificate"},
	}
}

// Vendor is a connection to KSC as the environment of Kaspersky's own scripts describes it. It ranks below settings and
// stored secrets. It is never printed with its password.
type Vendor struct {
	// KSC is the connection with the defaults of the settings.
	KSC KSC
	// Warnings are words for people about what is less safe than it could be.
	Warnings []string

	// A closure keeps the password from formatters that follow fields by reflection.
	password func() string
}

// VendorEnv reads kscHost, kscPort, kscUser, kscPassword and kscCert. It returns nil without kscHost, and an *Error for
// values that cannot be used. An unset kscCert trusts nothing: the caller then needs a certificate from elsewhere.
func VendorEnv(env func(string) (string, bool)) (*Vendor, error) {
	get := func(name string) string {
		text, _ := env(name)
		return strings.Trim(strings.TrimSpace(text), `"'`)
	}
	host := get(kscHost)
	if host == "" {
		return nil, nil //nolint:nilnil // absence is no error
	}
	v := &Vendor{KSC: KSC{User: get(kscUser)}}
	v.KSC.fill("ksc", places{})
	var problems []Problem
	port := get(kscPort)
	if port == "" {
		port = defaultKSCPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		problems = append(problems, Problem{File: kscPort, Message: "must be a port number, 1 to 65535"})
	} else if address, ok := withPort(host, port); ok {
		v.KSC.Address = address
	} else {
		problems = append(problems, Problem{File: kscHost, Message: "must be a host name or address"})
	}
	if v.KSC.User == "" {
		problems = append(problems, Problem{File: kscUser, Message: "required with kscHost"})
	}
	switch cert := get(kscCert); strings.ToLower(cert) {
	case "":
	case "false", "0":
		v.KSC.Insecure = true
		v.Warnings = append(v.Warnings, "kscCert=False: the certificate of KSC is not checked; give the path of klserver.cer")
	case "true", "1":
		v.KSC.SystemRoots = true
	default:
		v.KSC.CA = cert
	}
	if password, ok := env(kscPassword); ok && password != "" {
		v.password = func() string { return password }
		v.Warnings = append(v.Warnings,
			"kscPassword: any process of this account can read it; store it with `edr-bridge secrets set ksc/password`")
	}
	if len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return v, nil
}

// Password returns the value of kscPassword in memory of its own, or nil when it is not set. It may be sent only to
// KSC.Address.
func (v *Vendor) Password() []byte {
	if v.password == nil {
		return nil
	}
	return []byte(v.password())
}

// LogValue returns address and user.
func (v *Vendor) LogValue() slog.Value {
	return slog.GroupValue(slog.String("address", v.KSC.Address), slog.String("user", v.KSC.User))
}

// WithVendor returns the settings with the connection of v when they have no KSC; otherwise the settings themselves.
func (s *Settings) WithVendor(v *Vendor) *Settings {
	if v == nil || s.KSC != nil || len(s.Profiles) > 0 {
		return s
	}
	c, k := *s, v.KSC
	c.KSC = &k
	c.places.at = make(map[string]place, len(s.places.at)+3)
	maps.Copy(c.places.at, s.places.at)
	for path, name := range map[string]string{"ksc": kscHost, "ksc.user": kscUser, "ksc.ca": kscCert, "ksc.insecure": kscCert} {
		c.places.at[path] = place{env: name}
	}
	if !s.places.has("local.enabled") {
		c.Local.Enabled = false
	}
	return &c
}
