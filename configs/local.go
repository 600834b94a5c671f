package configs

import "time"

// Local are the settings of the local agent.
type Local struct {
	// Enabled lets the agent act. The default is true without ksc and false with it.
	Enabled bool `yaml:"enabled"`
	// DryRun lets the agent only say what it would do. Default false.
	DryRun bool `yaml:"dry_run"`
	// State is the directory of the store and of what the agent keeps: absolute or relative to this file. The default is
	// /var/lib/edr-bridge for root, %ProgramData%\edr-bridge on Windows, else $STATE_DIRECTORY (systemd), else edr-bridge below $XDG_STATE_HOME.
	State string `yaml:"state"`
	// Grace is how long a process may take to obey SIGTERM before it is killed, 0 to 1m. Default 0s: killed at once.
	Grace time.Duration `yaml:"grace"`
	// MaxTargets is how many processes or files one order may end or delete, 1 to 4096; one that finds more is refused whole. Default 64.
	MaxTargets int `yaml:"max_targets" jsonschema:"minimum=1,maximum=4096"`
	// Tasks are the only tasks this machine carries out; default all.
	Tasks []string `yaml:"tasks,omitempty"`
	// Separate makes the agent a process of its own (`edr-bridge agent run`, with the rights it needs): the bridge hands it orders over
	// socket and needs no rights itself. Default false: the bridge carries them out itself.
	Separate bool `yaml:"separate"`
	// AgentState is the directory of a separate agent: its own, because whoever can write there has its rights. Default: state with
	// -agent behind its name, such as /var/lib/edr-bridge-agent. Without separate everything is in state.
	AgentState string `yaml:"agent_state,omitempty"`
	// Socket is the path of the agent's Unix socket, 107 bytes at most; default agent.sock below state, of a separate agent
	// /run/edr-bridge-agent/agent.sock.
	Socket string `yaml:"socket,omitempty"`
	// Group is the Unix group whose members may connect to socket; default the group of the agent's process.
	Group string `yaml:"group,omitempty"`
	// Users are the accounts that may give orders over socket besides root: edr-bridge. Default none.
	Users []string `yaml:"users,omitempty"`
	// Start is about startProcess.
	Start Start `yaml:"start"`
	// Quarantine is about quarantineFile and getFile.
	Quarantine Quarantine `yaml:"quarantine"`
	// Isolation is about isolateHost.
	Isolation Isolation `yaml:"isolation"`
	// Prevention is about preventExecution.
	Prevention Prevention `yaml:"prevention"`
	// Scan is about onDemandScan and iocScan.
	Scan Scan `yaml:"scan"`
}

// Start are the settings of startProcess.
type Start struct {
	// User is the account programs run as; default that of the agent.
	User string `yaml:"user,omitempty"`
	// TimeLimit is how long a program may run before it is ended with all it started, 1s to 24h. Default 10m.
	TimeLimit time.Duration `yaml:"time_limit"`
	// Cgroup is the cgroup v2 directory below which each program gets a group of its own, which ends with all its members. Default for
	// an agent that stays: edr-bridge below the root of cgroup v2. Without one a program has a session of its own.
	Cgroup string `yaml:"cgroup,omitempty"`
}

// Quarantine are the settings of the quarantine.
type Quarantine struct {
	// MaxFile is the size of the largest file that is taken. Default 100MiB.
	MaxFile Size `yaml:"max_file"`
	// Quota is how much the quarantine may hold; a file that does not fit is refused. Default 10GiB.
	Quota Size `yaml:"quota"`
	// Keep is how long files stay, 1h to 43800h; 0s = for ever. Default 2160h.
	Keep time.Duration `yaml:"keep"`
}

// Isolation says what an isolated machine can still reach. Its own addresses on loopback, DNS servers in use, DHCP, and KSC, Redis and
// KUMA of these settings always stay.
type Isolation struct {
	// Allow are peers that stay reachable.
	Allow []Peer `yaml:"allow,omitempty" jsonschema:"maxItems=200"`
	// NTP keeps time servers reachable. Default false.
	NTP bool `yaml:"ntp"`
	// Namespaces cuts off the other network namespaces of the machine, containers among them. Default true.
	Namespaces bool `yaml:"namespaces"`
}

// Peer is somebody an isolated machine can still talk to.
type Peer struct {
	// Host is a name, an address or a network: admin.corp.local, 10.0.5.0/24.
	Host string `yaml:"host" jsonschema:"required"`
	// Ports are ports and spans of them: 22, 13000-13999. Default all.
	Ports []string `yaml:"ports,omitempty" jsonschema:"maxItems=64"`
	// Protocol is tcp, udp or any (default).
	Protocol string `yaml:"protocol,omitempty" jsonschema:"enum=tcp,enum=udp,enum=any"`
	// Direction is in (they connect to this machine), out (default) or both.
	Direction string `yaml:"direction,omitempty" jsonschema:"enum=in,enum=out,enum=both"`
}

// Prevention are the settings of preventExecution.
type Prevention struct {
	// Mode is block (default) or log: executions are recorded and let through.
	Mode string `yaml:"mode" jsonschema:"enum=block,enum=log"`
}

// Scan are the settings of scans.
type Scan struct {
	// Clamd is the path of the Unix socket of clamd; default: where Debian and Red Hat put it, else the built-in engine.
	Clamd string `yaml:"clamd,omitempty"`
	// Signatures is a file of the built-in engine, with lines as in ClamAV's .hdb, .hsb and .ndb.
	Signatures string `yaml:"signatures,omitempty"`
	// MaxFile is the size of the largest file that is looked at; larger ones are reported as skipped. Default 1GiB.
	MaxFile Size `yaml:"max_file"`
	// MaxTime is how long one scan may take, 1m to 24h. Default 6h.
	MaxTime time.Duration `yaml:"max_time"`
	// Workers is how many files are looked at at once, 1 to 32. Default 2.
	Workers int `yaml:"workers" jsonschema:"minimum=1,maximum=32"`
	// Quarantine moves what is found into the quarantine. Default false: it is reported.
	Quarantine bool `yaml:"quarantine"`
}

// Sensor are the settings of the process sensor.
type Sensor struct {
	// Rules are files with chains of processes that are suspicious; default the built-in ones (`edr-bridge sensor rules`).
	Rules []string `yaml:"rules,omitempty"`
	// Indicators are files with addresses and networks no process should connect to, one a line.
	Indicators []string `yaml:"indicators,omitempty"`
	// Baseline alerts on chains this machine has never seen.
	Baseline Baseline `yaml:"baseline"`
	// Publish are Redis sources of these settings that alerts of `edr-bridge sensor` go to: where the bridge reads them.
	Publish []string `yaml:"publish,omitempty"`
}

// Baseline are the settings of the search for chains never seen before.
type Baseline struct {
	// Enabled switches it on. Default false.
	Enabled bool `yaml:"enabled"`
	// Learn is how long it only watches, 1h to 8760h. Default 168h.
	Learn time.Duration `yaml:"learn"`
	// Score is the surprise in bits from which it alerts, 1 to 64. Default 8: one in 256.
	Score int `yaml:"score" jsonschema:"minimum=1,maximum=64"`
}
