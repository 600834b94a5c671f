package ksctest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	defaultAddress = "127.0.0.1:0"
	maxHostID      = 128 // bytes
)

// Config says what the server pretends to be. The zero value lacks only an account.
type Config struct {
	// Address is where to listen, "host:port"; "127.0.0.1:0" when empty (any free port).
	Address string
	// Accounts may log in; at least one is required.
	Accounts []Account
	// EnforceInternal refuses a login whose internal attribute differs from Account.Internal.
	EnforceInternal bool
	// FirstLogin401 answers the first login with good credentials 401, as a server that warms up does.
	FirstLogin401 bool
	// SessionIdle ends a session nobody used for so long; 0 = sessions do not age.
	SessionIdle time.Duration
	// Hosts are the managed computers. LenientHosts also takes incidents for any other well-formed id.
	Hosts        []Host
	LenientHosts bool
	// VirtualServers are the names X-KSC-VServer may carry; any other name means the main server.
	VirtualServers []string
	// BackgroundConnection turns incidents into response tasks, as the background connection of Web Console does.
	BackgroundConnection bool
	// TaskDelay is the time of each step: until the task appears, until it runs, until it ends.
	TaskDelay time.Duration
	// TaskOutcome decides how a task ends: StateOK, StateWarning or StateFailed and a description. Nil = StateOK.
	// It is called with a lock held and must not call the server.
	TaskOutcome func(Task) (HostState, string)
	// HostTasksOnly lists response tasks under HostTasks.* only, not under Tasks.*: the vendor documents neither.
	HostTasksOnly bool
	// SearchLag keeps FindIncidents from seeing an incident for so long after it was stored, as an index that is behind does.
	SearchLag time.Duration
	// StrictUpdate requires KLHST_WKS_HOSTNAME in UpdateIncident, as the note of the vendor's page does.
	StrictUpdate bool
	// Latency is waited before each call is carried out.
	Latency time.Duration
	// KeepIncidents bounds how many incidents (and tasks) stay in memory, oldest dropped first; 0 = all.
	KeepIncidents int
	// CertNotAfter is the end date of the certificate; zero = 397 days from the machine's clock.
	CertNotAfter time.Time
	// Seed starts the random numbers of the faults.
	Seed uint64
	// Now is the server's clock; nil = time.Now. See Server.Advance.
	Now func() time.Time
	// Logger gets one debug line a request; nil = silent.
	Logger *slog.Logger
	// OnIncident is called after AddIncident stored an incident and before the answer, by many goroutines at once.
	OnIncident func(Incident)
	// OnTask is called for each state a task enters, in order, by one goroutine. One that lags 100,000
	// states behind loses the oldest. Neither function may call Close or Down.
	OnTask func(Task)
}

// Account is one user of the server.
type Account struct {
	User     string
	Password string
	// Internal marks a user of the server itself, who logs in with internal="1".
	Internal bool
	// TOTP is the code the second factor must carry; empty = one factor.
	TOTP string
}

// String names the user without the secrets.
func (a Account) String() string { return "account " + a.User }

// GoString is String.
func (a Account) GoString() string { return a.String() }

// Host is one managed computer.
type Host struct {
	// ID is KLHST_WKS_HOSTNAME: a GUID-like string the server made, no network name.
	ID string
	// DisplayName is KLHST_WKS_DN, NetBIOS is KLHST_WKS_WINHOSTNAME, FQDN is KLHST_WKS_FQDN,
	// DNSName and DNSDomain are KLHST_WKS_DNSNAME and KLHST_WKS_DNSDOMAIN; all optional.
	DisplayName string
	NetBIOS     string
	FQDN        string
	DNSName     string
	DNSDomain   string
	// IP is an IPv4 address (KLHST_WKS_IP_LONG) or empty.
	IP string
	// GroupID is KLHST_WKS_GROUPID. Group names the administration group instead by its full path, "Managed devices/Servers/DC",
	// and makes the groups on the way; give one of the two. A GroupID above 1 belongs to no group the server can tell about.
	GroupID int
	Group   string
	// Status is the bit field KLHST_WKS_STATUS: 1 visible, 4 agent installed, 8 agent active, 16 protected.
	Status int
	// EDRStatus is KLHST_WKS_EDR_STATUS.
	EDRStatus int
	// VirtualServer names the virtual server that manages the host; empty = the main server.
	VirtualServer string
}

func (c *Config) validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	}
	if len(c.Accounts) == 0 {
		errs = append(errs, errors.New("accounts: at least one is required"))
	}
	for i, a := range c.Accounts {
		if a.User == "" {
			errs = append(errs, fmt.Errorf("accounts[%d].user: required", i))
		}
	}
	for i := range c.Hosts {
		if err := c.checkHost(&c.Hosts[i]); err != nil {
			errs = append(errs, fmt.Errorf("hosts[%d].%w", i, err))
		}
	}
	for name, d := range map[string]time.Duration{
		"session_idle": c.SessionIdle, "task_delay": c.TaskDelay, "latency": c.Latency, "search_lag": c.SearchLag,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", name))
		}
	}
	if c.KeepIncidents < 0 {
		errs = append(errs, errors.New("keep_incidents: must not be negative"))
	}
	return errors.Join(errs...)
}

func (c *Config) checkHost(h *Host) error {
	if !wellFormedHostID(h.ID) {
		return fmt.Errorf("id: %q is no host id; use 1 to %d letters, digits and . _ -", h.ID, maxHostID)
	}
	if h.IP != "" {
		if a, err := netip.ParseAddr(h.IP); err != nil || !a.Is4() {
			return fmt.Errorf("ip: %q is no IPv4 address", h.IP)
		}
	}
	if h.Group != "" && h.GroupID != 0 {
		return errors.New("group, group_id: give one of the two")
	}
	if h.Group != "" {
		if err := checkGroup(h.Group); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	if h.VirtualServer != "" && !slices.Contains(c.VirtualServers, h.VirtualServer) {
		return fmt.Errorf("virtual_server: %q is not among the virtual servers", h.VirtualServer)
	}
	return nil
}

// wellFormedHostID reports whether id can be a host id: 1 to 128 ASCII letters, digits and . _ -.
func wellFormedHostID(id string) bool {
	if id == "" || len(id) > maxHostID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}
