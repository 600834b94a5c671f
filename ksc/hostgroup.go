package ksc

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The methods of class HostGroup.
var (
	methodAddIncident    = method{"HostGroup.AddIncident", false}
	methodUpdateIncident = method{"HostGroup.UpdateIncident", true}
	methodDeleteIncident = method{"HostGroup.DeleteIncident", false}
	methodFindIncidents  = method{"HostGroup.FindIncidents", true}
	methodFindHosts      = method{"HostGroup.FindHosts", true}
	methodGetHostInfo    = method{"HostGroup.GetHostInfo", true}
	methodGetHostTasks   = method{"HostGroup.GetHostTasks", true}

	methodGetGroupInfoEx    = method{"HostGroup.GetGroupInfoEx", true}
	methodGroupIDGroups     = method{"HostGroup.GroupIdGroups", true}
	methodGroupIDUnassigned = method{"HostGroup.GroupIdUnassigned", true}
)

// searchLife is how many seconds after its last use the server keeps a result set; we release it before.
const searchLife = 120

// NewIncident is an incident to add. Severity 2 is what the vendor's sample sends; the scale is not published.
type NewIncident struct {
	Severity int `json:"KLINCDT_SEVERITY"`
	// Added is sent as UTC in whole seconds.
	Added DateTime `json:"KLINCDT_ADDED"`
	// Body is a text; for a response task it holds JSON.
	Body string `json:"KLINCDT_BODY"`
	// Host is the id of the host (KLHST_WKS_HOSTNAME), not one of its names.
	Host string `json:"KLHST_WKS_HOSTNAME"`
}

type addIncidentIn struct {
	Data NewIncident `json:"pData"`
}

type addIncidentOut struct {
	result
	ID *int64 `json:"PxgRetVal"`
}

func (o *addIncidentOut) missing() string {
	if o.ID == nil || *o.ID <= 0 {
		return "PxgRetVal is no incident id"
	}
	return ""
}

// AddIncident adds an incident and returns its id, which is positive. It has an effect each time and is not repeated once a
// byte of it may have left: after an error of class bridge.Unknown look for the incident before adding it again.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html
func (c *Client) AddIncident(ctx context.Context, in NewIncident) (int64, error) {
	var out addIncidentOut
	if err := c.call(ctx, methodAddIncident, addIncidentIn{in}, &out); err != nil {
		return 0, err
	}
	return *out.ID, nil
}

// IncidentChange is what UpdateIncident sets.
type IncidentChange struct {
	Handled bool `json:"KLINCDT_IS_HANDLED"`
	// Host is the id of the host; the vendor's note asks for it although its own example goes without.
	Host string `json:"KLHST_WKS_HOSTNAME"`
}

type updateIncidentIn struct {
	ID   int64          `json:"nId"`
	Data IncidentChange `json:"pData"`
}

// UpdateIncident changes an incident. It sets fixed values, so doing it twice is as good as once.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html
func (c *Client) UpdateIncident(ctx context.Context, id int64, change IncidentChange) error {
	return c.call(ctx, methodUpdateIncident, updateIncidentIn{id, change}, &result{})
}

// DeleteIncident deletes an incident. A second deletion is refused by the server, so it is not repeated by itself.
//
// KSC: https://support.kaspersky.com/help/KSC/15.1/KSCAPI/a00529.html
func (c *Client) DeleteIncident(ctx context.Context, id int64) error {
	return c.call(ctx, methodDeleteIncident, struct {
		ID int64 `json:"nId"`
	}{id}, &result{})
}

// ResultSet is what a search found, kept at the server under the Accessor until it is released, two
// minutes pass without use, or the session ends.
type ResultSet struct {
	Count    int
	Accessor string
}

type findOut struct {
	result
	Count    *int   `json:"PxgRetVal"`
	Accessor string `json:"strAccessor"`
}

func (o *findOut) missing() string {
	switch {
	case o.Count == nil || *o.Count < 0:
		return "PxgRetVal is no count"
	case o.Accessor == "" && *o.Count > 0:
		return "strAccessor is missing"
	default:
		return ""
	}
}

// order is one element of the fields to sort by. Each is wrapped although it stands in an argument.
type order struct {
	Name string `json:"Name"`
	Asc  bool   `json:"Asc"`
}

type findIncidentsIn struct {
	Filter string          `json:"strFilter"`
	Fields []string        `json:"pFieldsToReturn"`
	Order  []Params[order] `json:"pFieldsToOrder"`
	Life   int             `json:"lMaxLifeTime"`
}

// Incident is an incident as KSC keeps it.
type Incident struct {
	ID       int64    `json:"KLINCDT_ID"`
	Severity int      `json:"KLINCDT_SEVERITY"`
	Added    DateTime `json:"KLINCDT_ADDED"`
	Body     string   `json:"KLINCDT_BODY"`
	Handled  bool     `json:"KLINCDT_IS_HANDLED"`
	Host     string   `json:"KLHST_WKS_HOSTNAME"`
}

// FindIncidents searches incidents, ordered by id. Attributes fit to search by are KLINCDT_ID, KLINCDT_SEVERITY,
// KLINCDT_ADDED, KLINCDT_IS_HANDLED and KLHST_WKS_HOSTNAME; KLINCDT_BODY is a full-text index and may lag.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00483_a5b76f3c6aa7737a9bb502a12c6186820.html
func (c *Client) FindIncidents(ctx context.Context, f Filter) (ResultSet, error) {
	in := findIncidentsIn{
		Fields: []string{"KLINCDT_ID", "KLINCDT_SEVERITY", "KLINCDT_ADDED", "KLINCDT_BODY", "KLINCDT_IS_HANDLED", "KLHST_WKS_HOSTNAME"},
		Order:  []Params[order]{{order{"KLINCDT_ID", true}}}, Life: searchLife,
	}
	return find(ctx, c, methodFindIncidents, f, func(text string) any { in.Filter = text; return in })
}

type findHostsIn struct {
	Filter string    `json:"wstrFilter"`
	Fields []string  `json:"vecFieldsToReturn"`
	Order  []string  `json:"vecFieldsToOrder"`
	Params findScope `json:"pParams"`
	Life   int       `json:"lMaxLifeTime"`
}

// findScope keeps a search to the server we talk to: hosts of secondary servers cannot be given tasks here.
type findScope struct {
	CurrentOnly bool `json:"KLGRP_FIND_FROM_CUR_VS_ONLY"`
}

// Host is a host as KSC keeps it. Attributes the server did not give are zero.
type Host struct {
	// ID is the server's own name of the host, which looks like a GUID.
	ID          string `json:"KLHST_WKS_HOSTNAME"`
	DisplayName string `json:"KLHST_WKS_DN"`
	NetBIOSName string `json:"KLHST_WKS_WINHOSTNAME"`
	FQDN        string `json:"KLHST_WKS_FQDN"`
	DNSName     string `json:"KLHST_WKS_DNSNAME"`
	DNSDomain   string `json:"KLHST_WKS_DNSDOMAIN"`
	// IP is the IPv4 address, its first byte lowest.
	IP Long `json:"KLHST_WKS_IP_LONG"`
	// GroupID is the administration group the host is in; nil when the server did not say. 0 is a group: "Managed devices".
	GroupID *Long `json:"KLHST_WKS_GROUPID"`
}

func hostFields() []string {
	return []string{
		"KLHST_WKS_HOSTNAME", "KLHST_WKS_DN", "KLHST_WKS_WINHOSTNAME", "KLHST_WKS_FQDN", "KLHST_WKS_DNSNAME",
		"KLHST_WKS_DNSDOMAIN", "KLHST_WKS_IP_LONG", "KLHST_WKS_GROUPID",
	}
}

// FindHosts searches hosts of this server, the secondary servers left out.
//
// KSC: https://support.kaspersky.com/help/KSC/14/KSCAPI/a00514.html
func (c *Client) FindHosts(ctx context.Context, f Filter) (ResultSet, error) {
	in := findHostsIn{Fields: hostFields(), Order: []string{}, Params: findScope{true}, Life: searchLife}
	return find(ctx, c, methodFindHosts, f, func(text string) any { in.Filter = text; return in })
}

func find(ctx context.Context, c *Client, m method, f Filter, with func(string) any) (ResultSet, error) {
	if err := f.Err(); err != nil {
		return ResultSet{}, &CallError{Method: m.name, Class: bridge.Permanent, Err: err}
	}
	var out findOut
	if err := c.call(ctx, m, with(f.String()), &out); err != nil {
		return ResultSet{}, err
	}
	return ResultSet{Count: *out.Count, Accessor: out.Accessor}, nil
}

type hostInfoOut struct {
	result
	Info json.RawMessage `json:"PxgRetVal"`
}

func (o *hostInfoOut) missing() string {
	if len(o.Info) == 0 || o.Info[0] != '{' {
		return "PxgRetVal is no host"
	}
	return ""
}

// GetHostInfo returns the host with the given id.
//
// KSC: https://support.kaspersky.com/help/KSC/14/KSCAPI/a00514.html
func (c *Client) GetHostInfo(ctx context.Context, id string) (Host, error) {
	var out hostInfoOut
	in := struct {
		ID     string   `json:"strHostName"`
		Fields []string `json:"pFields2Return"`
	}{id, hostFields()}
	if err := c.call(ctx, methodGetHostInfo, in, &out); err != nil {
		return Host{}, err
	}
	var h Host
	if err := json.Unmarshal(out.Info, &h); err != nil {
		return Host{}, unreadableAnswer(methodGetHostInfo, &answerError{"host has an unexpected form", out.Info}, nil)
	}
	return h, nil
}

type textOut struct {
	result
	Text string `json:"PxgRetVal"`
}

func (o *textOut) missing() string {
	if o.Text == "" {
		return "PxgRetVal is no id"
	}
	return ""
}

// GetHostTasks returns the handle under which the class HostTasks knows the host with the given id. It ends with the session;
// nothing releases it before.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00549.html
func (c *Client) GetHostTasks(ctx context.Context, host string) (string, error) {
	var out textOut
	in := struct {
		Host string `json:"strHostName"`
	}{host}
	if err := c.call(ctx, methodGetHostTasks, in, &out); err != nil {
		return "", err
	}
	return out.Text, nil
}

// Group is an administration group.
type Group struct {
	// ID is its number; 0 was seen to be "Managed devices" (observed: demisto/content, KasperskySecurityCenter).
	ID Long `json:"id"`
	// Name is its own name, without those of the groups above.
	Name string `json:"name"`
	// ParentID is the group above; nil when the server did not say. What predefined groups have there is not documented.
	ParentID *Long `json:"parentId"`
}

type groupOut struct {
	result
	Group *Group `json:"PxgRetVal"`
}

func (o *groupOut) missing() string {
	if o.Group == nil {
		return "PxgRetVal is no group"
	}
	return ""
}

// GetGroupInfoEx returns the administration group with the given number.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00549_abd080cee067e37f8ba3a679b4de43be4.html (since 13), attributes
// https://support.kaspersky.com/help/KSC/15/KSCAPI/a00005.html
func (c *Client) GetGroupInfoEx(ctx context.Context, id int64) (Group, error) {
	var out groupOut
	in := struct {
		ID     int64    `json:"nGroupId"`
		Fields []string `json:"pArrAttributes"`
	}{id, []string{"id", "name", "parentId"}}
	if err := c.call(ctx, methodGetGroupInfoEx, in, &out); err != nil {
		return Group{}, err
	}
	return *out.Group, nil
}

type groupIDOut struct {
	result
	ID *Long `json:"PxgRetVal"`
}

func (o *groupIDOut) missing() string {
	if o.ID == nil {
		return "PxgRetVal is no group"
	}
	return ""
}

// GroupIDGroups returns the number of the predefined group "Managed devices" of the server (or virtual server) we talk to.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00549.html (GroupIdGroups).
func (c *Client) GroupIDGroups(ctx context.Context) (int64, error) {
	return c.predefined(ctx, methodGroupIDGroups)
}

// GroupIDUnassigned returns the number of the predefined group "Unassigned devices".
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00549.html (GroupIdUnassigned).
func (c *Client) GroupIDUnassigned(ctx context.Context) (int64, error) {
	return c.predefined(ctx, methodGroupIDUnassigned)
}

func (c *Client) predefined(ctx context.Context, m method) (int64, error) {
	var out groupIDOut
	if err := c.call(ctx, m, struct{}{}, &out); err != nil {
		return 0, err
	}
	return int64(*out.ID), nil
}

// refusesOne reports whether the server answered and it is only this one question that it refuses or garbles: the account is
// let in, and other questions may fare better.
func refusesOne(err error) bool {
	if _, garbled := errors.AsType[*answerError](err); garbled {
		return true
	}
	call, ok := errors.AsType[*CallError](err)
	_, shutOut := errors.AsType[*AuthError](err)
	return ok && !shutOut && call.Class == bridge.Permanent
}

// isRefusal reports whether the application answered, but with a PxgError.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}
