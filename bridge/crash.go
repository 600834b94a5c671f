package bridge

// The places where a process can be made to die (build tag crashpoints), in the order an alert comes by them.
const (
	CrashReceived  = "received"   // a source handed the alert over
	CrashJudged    = "judged"     // judged, not committed
	CrashBeforeTx  = "before-tx"  // the transaction is filled, not committed
	CrashAfterTx   = "after-tx"   // committed, nobody told yet
	CrashAdmitted  = "admitted"   // admitted, not settled
	CrashSettled   = "settled"    // settled at the source, nothing sent
	CrashIntended  = "intended"   // the intent of a queued order is on disk
	CrashExecuting = "executing"  // all guards passed, the executor is about to be called
	CrashAdded     = "added"      // KSC added the incident, it is not set to unhandled yet
	CrashExecuted  = "executed"   // the executor answered, the outcome is not committed
	CrashEnded     = "ended"      // the outcome is committed
	CrashLooking   = "looking"    // about to search for an undecided effect
	CrashLooked    = "looked"     // the search answered, nothing committed
	CrashFollowed  = "followed"   // progress was learned, not committed
	CrashBeforeAck = "before-ack" // about to acknowledge to Redis
	CrashAfterAck  = "after-ack"  // acknowledged to Redis
	CrashLease     = "lease"      // a lease asked for an order that is not admitted yet
)

// CrashPoints lists them.
func CrashPoints() []string {
	return []string{
		CrashReceived, CrashJudged, CrashBeforeTx, CrashAfterTx, CrashAdmitted, CrashSettled, CrashIntended, CrashExecuting, CrashAdded,
		CrashExecuted, CrashEnded, CrashLooking, CrashLooked, CrashFollowed, CrashBeforeAck, CrashAfterAck, CrashLease,
	}
}
