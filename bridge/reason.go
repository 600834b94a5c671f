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
	ReasonProtectedHost    Reason = "protect.hosts"     // a never-touch host
	ReasonProtectedProcess Reason = "protect.processes" // a never-touch process
	ReasonProtectedPath    Reason = "protect.paths"     // a never-touch path
	ReasonProtectedAddress Reason = "protect.addresses" // a never-touch address
	ReasonDedupe           Reason = "dedupe"            // covered by an order inside the window
	ReasonInvalid          Reason = "invalid"           // the order does not hold what its task needs
	ReasonNoHost           Reason = "no_host"           // the alert names no endpoint
	ReasonHostNotFound     Reason = "host_not_found"
	ReasonHostAmbiguous    Reason = "host_ambiguous"
	ReasonOtherHost        Reason = "other_host"  // the local executor acts on this machine only
	ReasonNoExecutor       Reason = "no_executor" // nobody here can carry the order out
	ReasonUnsupported      Reason = "unsupported" // the executor does not know the task
	ReasonProcessGone      Reason = "process_gone"
	ReasonProcessChanged   Reason = "process_changed" // the pid belongs to another process
	ReasonCredentials      Reason = "credentials"     // the login was refused
	ReasonUnreachable      Reason = "unreachable"
	ReasonPanic            Reason = "panic" // a defect of the bridge, caught at the boundary of one alert
)
