package bridge

// Reason is the closed word for why a guard or executor did not let an order through. The same word stands in
// the CLI, the audit record and the metric label.
type Reason string

// The reasons.
const (
	ReasonNone             Reason = ""
	ReasonMode             Reason = "mode"              // the rule's mode or its ceiling
	ReasonDryRun           Reason = "dry_run"           // the executor only says what it would do
	ReasonApproval         Reason = "approval"          // waits for a person
	ReasonHold             Reason = "hold"              // the latched stop
	ReasonAge              Reason = "age"               // the alert is too old, or its age is not known
	ReasonSource           Reason = "sources.tasks"     // the source's alerts may not lead to the task
	ReasonLocalTasks       Reason = "local.tasks"       // this machine does not carry out the task
	ReasonProtectedHost    Reason = "protect.hosts"     // a never-touch host
	ReasonProtectedProcess Reason = "protect.processes" // a never-touch process
	ReasonProtectedPath    Reason = "protect.paths"     // a never-touch path
	ReasonProtectedAddress Reason = "protect.addresses" // a never-touch address
	ReasonDedupe           Reason = "dedupe"            // covered by an order inside the window
	ReasonLease            Reason = "lease"             // the host is isolated already; the reason was added to its lease
	ReasonThreshold        Reason = "after"             // not enough alerts within the rule's time
	ReasonLimit            Reason = "limits"            // a budget is used up
	ReasonLiveTasks        Reason = "ksc.tasks"         // KSC has as many unfinished tasks as it may
	ReasonDamping          Reason = "damping"           // the host was isolated and released too often
	ReasonHours            Reason = "hours"             // outside of the hours in which rules may act
	ReasonDeadline         Reason = "deadline"          // the order stayed too long in its state
	ReasonInvalid          Reason = "invalid"           // the order does not hold what its task needs
	ReasonNoHost           Reason = "no_host"           // the alert names no endpoint
	ReasonHostNotFound     Reason = "host_not_found"
	ReasonHostAmbiguous    Reason = "host_ambiguous"
	ReasonOtherHost        Reason = "other_host"  // the local executor acts on this machine only
	ReasonTenant           Reason = "tenant"      // nobody said which of several KSC servers, or the alert's tenant belongs to none
	ReasonNoExecutor       Reason = "no_executor" // nobody here can carry the order out
	ReasonUnsupported      Reason = "unsupported" // the executor does not know the task
	ReasonProcessGone      Reason = "process_gone"
	ReasonProcessChanged   Reason = "process_changed" // the pid belongs to another process
	ReasonCredentials      Reason = "credentials"     // the login was refused
	ReasonUnreachable      Reason = "unreachable"
	ReasonPanic            Reason = "panic" // a defect of the bridge, caught at the boundary of one alert
)

// Reasons lists every reason but ReasonNone, in the order above.
func Reasons() []Reason {
	return []Reason{
		ReasonMode, ReasonDryRun, ReasonApproval, ReasonHold, ReasonAge, ReasonSource, ReasonLocalTasks, ReasonProtectedHost, ReasonProtectedProcess,
		ReasonProtectedPath, ReasonProtectedAddress, ReasonDedupe, ReasonLease, ReasonThreshold, ReasonLimit, ReasonLiveTasks,
		ReasonDamping, ReasonHours, ReasonDeadline, ReasonInvalid, ReasonNoHost, ReasonHostNotFound, ReasonHostAmbiguous,
		ReasonOtherHost, ReasonTenant, ReasonNoExecutor, ReasonUnsupported, ReasonProcessGone, ReasonProcessChanged, ReasonCredentials,
		ReasonUnreachable, ReasonPanic,
	}
}
