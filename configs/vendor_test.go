package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestVendorEnvironmentReadsTheFiveNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pairs []string
		want  string
	}{
		"none":         {nil, "nil"},
		"user only":    {[]string{"kscUser", "u"}, "nil"},
		"defaults":     {[]string{"kscHost", "ksc01", "kscUser", "u"}, "ksc01:13299 u ca= roots=false insecure=false password= warnings=0"},
		"port as text": {[]string{"kscHost", "ksc01", "kscPort", `"13300"`, "kscUser", "u", "kscCert", "/etc/k.cer"}, "ksc01:13300 u ca=/etc/k.cer roots=false insecure=false password= warnings=0"},
		"no check":     {[]string{"kscHost", "ksc01", "kscUser", "u", "kscCert", "False", "kscPassword", "p w"}, "ksc01:13299 u ca= roots=false insecure=true password=p w warnings=2"},
		"system roots": {[]string{"kscHost", "2001:db8::1", "kscUser", "u", "kscCert", "True"}, "[2001:db8::1]:13299 u ca= roots=true insecure=false password= warnings=0"},
		"bad port":     {[]string{"kscHost", "ksc01", "kscUser", "u", "kscPort", "x"}, "kscPort: must be a port number, 1 to 65535"},
		"no user":      {[]string{"kscHost", "ksc01"}, "kscUser: required with kscHost"},
		"bad host":     {[]string{"kscHost", "https://ksc01", "kscUser", "u"}, "kscHost: must be a host name or address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := VendorEnv(env(c.pairs...))
			got := "nil"
			switch {
			case err != nil:
				got = err.Error()
			case v != nil:
				k := v.KSC
				got = fmt.Sprintf("%s %s ca=%s roots=%v insecure=%v password=%s warnings=%d", k.Address, k.User, k.CA, k.SystemRoots, k.Insecure, v.Password(), len(v.Warnings))
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestVendorPasswordIsPrintedByNothing(t *testing.T) {
	t.Parallel()
	v, err := VendorEnv(env("kscHost", "k", "kscUser", "u", "kscPassword", canary))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v, "deref", *v)
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(raw)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb, v)
		fmt.Fprintf(&out, verb, *v)
	}
	if strings.Contains(out.String(), canary) || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) {
		t.Errorf("the password is shown: %s", out.String())
	}
	if !strings.Contains(v.Warnings[0], "secrets set") {
		t.Error(v.Warnings)
	}
}

func TestSettingsRankAboveTheVendorEnvironment(t *testing.T) {
	t.Parallel()
	v, err := VendorEnv(env("kscHost", "other", "kscUser", "u", "kscCert", "False"))
	if err != nil {
		t.Fatal(err)
	}
	own := mustLoad(t, small)
	if own.WithVendor(v) != own || own.WithVendor(nil) != own {
		t.Error("the environment replaces settings")
	}
	bare, err := Load("", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	with := bare.WithVendor(v)
	if with.KSC == nil || with.KSC.Address != "other:13299" || with.At("ksc.address") != "kscHost" || with.Local.Enabled {
		t.Errorf("%+v %s", with.KSC, with.At("ksc.address"))
	}
	if bare.KSC != nil || bare.At("ksc.address") != "default" {
		t.Error("the settings were changed in place")
	}
}
