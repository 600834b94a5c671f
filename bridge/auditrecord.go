package bridge

import (
	"crypto/sha256"
	"time"
)

// The words of AuditRecord.What for the life of an order. Records that belong to no order carry a Note… word.
const (
	AuditAdmit = "admit" // the order came into the store
	AuditMove  = "move"  // its state changed
)

// AuditRecord is one link of the audit chain.
type AuditRecord struct {
	// Seq counts from 1 without gaps.
	Seq  int64
	Time time.Time
	// What is AuditAdmit, AuditMove or one of the Note… words.
	What string
	// Order is the id of the order, empty for notes; From and To are its state before and after.
	Order    string
	From, To State
	Reason   Reason
	Rule     string
	Task     Kind
	Host     string
	// Source is the source of the alert or the one a note is about, Actor the person who entered the order, Approver the one who
	// decided about it.
	Source, Actor, Approver string
	// Count is how many alerts a note is about; Attempts how often the order was sent.
	Count    int64
	Attempts int
	// Ref is what the executor calls the order: the incident id of KSC.
	Ref    string
	Detail string
	// Alert is the SHA-256 of the document the order comes from, on the admit record.
	Alert []byte
	// Payload is the SHA-256 of the body that is sent, or of the params of an order without one.
	Payload []byte
	// Policy is the beginning of the SHA-256 over the settings and rules in force, on the admit record and the start note.
	Policy []byte
	// Keyed says that Hash is an HMAC-SHA256 under the audit key, else it is a plain SHA-256.
	Keyed bool
	// Prev is the hash of the record before, Hash the one of this record.
	Prev, Hash [sha256.Size]byte
}

// AuditFilter picks audit records; zero fields pick all.
type AuditFilter struct {
	// Order is the exact id of an order.
	Order string
	Host  string
	// Since leaves out older records.
	Since time.Time
	// After picks records with a greater Seq, for walks from the oldest on.
	After int64
	// Limit is how many records come at most, up to 10,000; 0 = 100.
	Limit int
}

// Anchor is the head of the chain at some moment, kept where the store's machine cannot change it.
type Anchor struct {
	Seq  int64
	Hash [sha256.Size]byte
}

// AuditReport is what a verification of the chain found.
type AuditReport struct {
	// First is the Seq of the oldest record that was read, Records how many were.
	First, Records int64
	// Head is the last good record: an anchor to keep elsewhere.
	Head Anchor
	// FirstBad is the Seq of the first record that is missing, changed or out of place; 0 = none.
	FirstBad int64
	// Problem says in words what is wrong with it.
	Problem string
}
