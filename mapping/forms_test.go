package mapping

import (
	"testing"
	"time"
)

func TestClockReadsOnlyTheDeclaredForms(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	for _, c := range []struct {
		forms forms
		text  string // a JSON token when it begins with a quote or is a number, else plain text
		want  string
	}{
		{formRFC3339, `"2026-11-20T17:06:56.5+03:00"`, "2026-11-20T14:06:56.5Z"},
		{formRFC3339, `"2026-11-20T17:06:56+0300"`, ""},
		{formRFC3339, `"2026-11-20T17:06:56.5+0300"`, ""},
		{formNoColon, `"2026-11-20T17:06:56.5+0300"`, "2026-11-20T14:06:56.5Z"},
		{formNoColon, `"2026-11-20T17:06:56+0300"`, "2026-11-20T14:06:56Z"},
		{formNoColon, `"2026-11-20T17:06:56+03:00"`, ""},
		{formNoColon, `"2026-11-20T17:06:56Z"`, ""},
		{formRFC3339 | formNoColon, `"2026-11-20T17:06:56Z"`, "2026-11-20T17:06:56Z"},
		{formRFC3339, `"2026-11-20T17:06:56"`, ""},
		{formRFC3339 | formNaiveUTC, `"2026-11-20 17:06:56.522"`, "2026-11-20T17:06:56.522Z"},
		{formRFC3339 | formNaiveLocal, `"2026-11-20T17:06:56"`, "2026-11-20T16:06:56Z"},
		{formRFC3339 | formNaiveLocal, `"2026-10-25T02:30:00"`, ""},
		{formRFC3339, `1795194416`, ""},
		{formEpochS, `1795194416`, "2026-11-20T17:06:56Z"},
		{formEpochS, `"1795194416.25"`, "2026-11-20T17:06:56.25Z"},
		{formEpochS, `1795194416123`, ""},
		{formEpochMS, `1795194416123`, "2026-11-20T17:06:56.123Z"},
		{formEpochMS, "1795194416123", "2026-11-20T17:06:56.123Z"},
		{formEpochUS, `1795194416123456`, "2026-11-20T17:06:56.123456Z"},
		{formEpochNS, `1795194416123456789`, "2026-11-20T17:06:56.123456789Z"},
		{formEpochNS, `1795194416123456789.9`, "2026-11-20T17:06:56.123456789Z"},
		{formEpochS, `9999999999999999999999`, ""},
		{formEpochS, `"-1"`, ""},
		{formEpochS, `"1.7e9"`, ""},
		{formEpochS, `"1."`, ""},
		{formEpochS, `".5"`, ""},
		{formEpochS, `"0x10"`, ""},
		{formCEFDate, "Nov 20 2026 17:06:56", ""},
		{formCEFDate, "Nov 20 2026 17:06:56.123 UTC", "2026-11-20T17:06:56.123Z"},
		{formCEFDate, "Nov 20 2026 17:06:56 GMT", "2026-11-20T17:06:56Z"},
		{formCEFDate, "Nov 20 2026 17:06:56 MSK", ""},
		{formCEFDate, "Nov 20 2026 17:06:56 +0300", "2026-11-20T14:06:56Z"},
		{formCEFDate | formNaiveLocal, "Nov 02 2026 17:06:56", "2026-11-02T16:06:56Z"},
		{formCEFDate, "Nov 20 17:06:56 UTC", ""},
		{formCEFDate, "Nov 31 2026 17:06:56 UTC", ""},
		{formUSDate, "3/4/2026 5:06:07 PM UTC", "2026-03-04T17:06:07Z"},
		{formUSDate, "3/4/2026 5:06:07 PM", ""},
		{formUSDate | formNaiveUTC, "12/14/2023 8:15:00 AM", "2023-12-14T08:15:00Z"},
		{formUSDate | formNaiveUTC, "13/14/2023 8:15:00 AM", ""},
	} {
		v := scalar{text: c.text}
		if c.text[0] == '"' || c.forms.has(formEpochs) && c.text[0] != '"' {
			v = scalar{token: []byte(c.text)}
		}
		got, ok := c.forms.clock(v, berlin)
		have := ""
		if ok {
			have = got.UTC().Format(time.RFC3339Nano)
		}
		if have != c.want {
			t.Errorf("%s: %q, want %q", c.text, have, c.want)
		}
	}
}

func TestLevelsOutsideTheTableAreAbsent(t *testing.T) {
	t.Parallel()
	var table levelTable
	for _, r := range [][2]string{{"LOW", "0-4"}, {"MEDIUM", "5-9.5"}, {"HIGH", "10"}, {"HIGH", "Error"}, {"CRITICAL", "11-15"}, {"CRITICAL", "very-high"}} {
		row, ok := levelRowOf(r[0], r[1])
		if !ok {
			t.Fatal(r)
		}
		table = append(table, row)
	}
	for text, want := range map[string]string{
		"0": "LOW", "4": "LOW", "4.5": "", "9.5": "MEDIUM", "10": "HIGH", "10.0": "HIGH", "15": "CRITICAL", "16": "", "-1": "", "ERROR": "HIGH", " error ": "HIGH", "Very-High": "CRITICAL",
		"high": "", "": "", "NaN": "", "Inf": "", "1e1": "HIGH",
	} {
		if got, ok := table.levelOf(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, bad := range []string{"9-5", ""} {
		if _, ok := levelRowOf("LOW", bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestACutDigestIsNeverUsed(t *testing.T) {
	t.Parallel()
	const (
		md5    = "44d88612fea8a8f36de82e1278abb02f"
		sha1   = "3395856ce81f2b7382dee72602f798b642f14140"
		sha256 = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
	)
	for text, want := range map[string]digests{
		"":                                 {},
		md5:                                {md5: md5},
		sha1:                               {},
		sha256:                             {sha256: sha256},
		"MD5=" + md5 + ",SHA256=" + sha256: {md5, sha256},
		"SHA1=" + sha1 + ", md5=44D88612FEA8A8F36DE82E1278ABB02F": {md5: md5},
		"sha256:" + sha256:                      {sha256: sha256},
		"SHA-256=" + sha256:                     {sha256: sha256},
		md5[:31]:                                {},
		"MD5=" + md5[:31]:                       {},
		"MD5=" + md5[:31] + ",SHA256=" + sha256: {sha256: sha256},
		"MD5=" + sha256:                         {},
		"IMPHASH=" + md5:                        {},
		"MD5=" + md5 + ",MD5=" + md5[1:] + "0":  {},
		"MD5=" + md5 + ",MD5=" + md5:            {md5: md5},
		"zz" + md5[2:]:                          {},
		md5 + md5[1:]:                           {},
	} {
		if got := readDigests(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestHostsAndAddressesLosePortAndZoneOnlyWhereDeclared(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ws-1:9100": "ws-1", "10.0.0.1:80": "10.0.0.1", "[fe80::1]:80": "fe80::1", "ws-1": "ws-1", "fe80::1": "fe80::1", "ws-1:": "ws-1:", "ws-1:http": "ws-1:http", "::1": "::1",
	} {
		if got := hostOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, c := range []struct {
		forms      forms
		text, want string
	}{
		{0, "10.0.0.1", "10.0.0.1"},
		{0, "10.0.0.1:80", ""},
		{formHostPort, "10.0.0.1:80", "10.0.0.1"},
		{0, "fe80::1%eth0", ""},
		{formZone, "fe80::1%eth0", "fe80::1"},
		{0, "::ffff:10.0.0.1", "10.0.0.1"},
		{0, "x", ""},
		{formHostPort | formZone, "[fe80::1%eth0]:80", "fe80::1"},
	} {
		got := ""
		if a := c.forms.address(c.text); a.IsValid() {
			got = a.String()
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
