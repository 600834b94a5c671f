package kuma

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
)

const restMaxHost = 1023 // characters of a host name

// AssetQuery picks assets by what is given of id (a UUID), full name and address.
type AssetQuery struct {
	ID   string
	FQDN string
	IP   netip.Addr
}

// Asset is one computer as KUMA knows it. not documented: whether the API gives the id of the computer in KSC, so the way to
// it is by name or address.
type Asset struct {
	ID, TenantID, Name string
	FQDNs              []string
	Addresses          []string
}

// Assets returns the first 250 assets that fit. Names and addresses are compared as a whole, in any case.
//
// KUMA: GET assets, support.kaspersky.com/help/KUMA/3.0.2/en-US/222256.htm.
func (c *Client) Assets(ctx context.Context, q AssetQuery) ([]Asset, error) {
	values := url.Values{}
	switch {
	case q.ID == "" && q.FQDN == "" && !q.IP.IsValid():
		return nil, restArgument("assets: give an id, a name or an address")
	case q.ID != "" && !restUUID(q.ID):
		return nil, restArgument("assets: id %.60q is not a UUID", q.ID)
	case len(q.FQDN) > restMaxHost || restVisible(q.FQDN) != q.FQDN:
		return nil, restArgument("assets: %.60q is not a host name", q.FQDN)
	}
	if q.ID != "" {
		values.Set("id", q.ID)
	}
	// Both are regular expressions at the server: what is in a name must not be one.
	if q.FQDN != "" {
		values.Set("fqdn", "^"+regexp.QuoteMeta(q.FQDN)+"$")
	}
	if q.IP.IsValid() {
		values.Set("ip", "^"+regexp.QuoteMeta(q.IP.WithZone("").Unmap().String())+"$")
	}
	body, err := c.call(ctx, restRequest{method: http.MethodGet, path: restAssets, query: values.Encode()})
	if err != nil {
		return nil, err
	}
	var in []struct {
		ID          string    `json:"id"`
		TenantID    string    `json:"tenantID"`
		Name        string    `json:"name"`
		FQDN        restTexts `json:"fqdn"`
		IPAddresses []string  `json:"ipAddresses"`
	}
	if err := restDecode(restAssets, body, &in); err != nil {
		return nil, err
	}
	assets := make([]Asset, 0, len(in))
	for _, a := range in {
		assets = append(assets, Asset{a.ID, a.TenantID, a.Name, a.FQDN, a.IPAddresses})
	}
	return assets, nil
}

// restTexts is one text (v1) or a list of them.
type restTexts []string

// UnmarshalJSON reads both forms.
func (t *restTexts) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' {
		return json.Unmarshal(raw, (*[]string)(t))
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	*t = nil
	if s != "" {
		*t = restTexts{s}
	}
	return nil
}
