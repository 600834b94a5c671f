-- Times are integer nanoseconds since 1970 UTC, NULL = not known. Empty text is NULL.

-- Documents as received, with what names them; everything else is read from raw by the mapper.
CREATE TABLE alerts (
  seq      INTEGER PRIMARY KEY,
  source   TEXT,
  id       TEXT,
  preset   TEXT,
  tenant   TEXT,
  in_case  TEXT,               -- the product's id of the case the alert belongs to
  received INTEGER,
  raw_of   INTEGER,            -- seq of the alert that holds the same document, NULL = raw is here
  raw      BLOB
);

CREATE TABLE orders (
  seq           INTEGER PRIMARY KEY,
  id            TEXT NOT NULL,
  state         TEXT NOT NULL,
  owner         TEXT NOT NULL, -- "run" or "send": who moved it last
  admitted      INTEGER NOT NULL,
  updated       INTEGER NOT NULL,
  alert         INTEGER,       -- alerts.seq
  alert_id      TEXT,
  source        TEXT,
  rule          TEXT,
  at            TEXT,
  actor         TEXT,
  host          TEXT,
  task          TEXT,
  params        TEXT,          -- JSON, exactly the vendor's params
  subject       TEXT,          -- JSON
  mode          TEXT,
  via           TEXT,
  lasts         INTEGER,       -- nanoseconds
  dedupe        TEXT,
  dedupe_window INTEGER,       -- nanoseconds
  dedupe_until  INTEGER,       -- NULL = covers nothing, or came to nothing
  alert_time    INTEGER,
  created       INTEGER,
  not_after     INTEGER,
  reason        TEXT,
  detail        TEXT,
  covers        TEXT,
  executor      TEXT,
  attempts      INTEGER,
  ref           TEXT,
  intent_target TEXT,
  intent_names  TEXT,          -- JSON array
  intent_second INTEGER,
  intent_key    INTEGER,       -- first 64 bits of SHA-256 over target and body
  intent_body   TEXT,
  due           INTEGER,       -- when it has to have left its state, NULL for ends
  approval      TEXT,          -- JSON
  isolates      TEXT,          -- of isolateHost orders: the host in lower case
  trail         TEXT NOT NULL  -- audit.seq of its records, oldest first, with commas
);
CREATE UNIQUE INDEX orders_id     ON orders (id);
CREATE INDEX        orders_state  ON orders (state, seq, due);
-- Read from end to end by every listing: growing only at its end it costs a tenth of an index by host.
CREATE INDEX        orders_scan   ON orders (seq, admitted, host, rule, task, source, alert_id);
CREATE INDEX        orders_dedupe ON orders (dedupe, dedupe_until) WHERE dedupe_until IS NOT NULL;
-- By spans of 16 s first, so that it grows at its end; intent.go asks for the spans.
CREATE UNIQUE INDEX orders_intent ON orders (intent_second / 16000000000, intent_key, intent_second) WHERE intent_second IS NOT NULL;
-- Without the state, so that moves of other orders do not look at them.
CREATE INDEX        orders_host   ON orders (isolates) WHERE isolates IS NOT NULL;
CREATE INDEX        orders_target ON orders (intent_target) WHERE isolates IS NOT NULL;

-- Which orders are about a host, see hosts.go.
CREATE TABLE hosts (
  bucket INTEGER,
  block  INTEGER,
  orders BLOB NOT NULL,
  PRIMARY KEY (bucket, block)
) WITHOUT ROWID;

-- Each record's hash is over the hash of the record before it and its own fields, see seal.go. The first one follows 32 zero bytes.
CREATE TABLE audit (
  seq         INTEGER PRIMARY KEY,
  time        INTEGER NOT NULL,
  what        TEXT NOT NULL,
  order_id    TEXT,
  state_from  TEXT,
  state_to    TEXT,
  reason      TEXT,
  rule        TEXT,
  task        TEXT,
  host        TEXT,
  source      TEXT,
  actor       TEXT,
  approver    TEXT,
  count       INTEGER,
  attempts    INTEGER,
  ref         TEXT,            -- incident id of KSC; of an archive note: the last record archived, SEQ:HASH
  detail      TEXT,
  alert       BLOB,            -- SHA-256 of the document
  payload     BLOB,            -- SHA-256 of the body that is sent, else of the params; of an archive note: of the file
  policy      BLOB,            -- beginning of the SHA-256 of settings and rules
  keyed       INTEGER,         -- 1 = hash is an HMAC under the audit key
  hash        BLOB NOT NULL
);

-- Why hosts are isolated. Rows that are not open are history.
CREATE TABLE leases (
  seq      INTEGER PRIMARY KEY, -- in the order of their last change
  order_id TEXT NOT NULL,
  effect   TEXT,                -- id of the order that isolates the host; NULL = nobody knows
  host     TEXT,
  target   TEXT,
  executor TEXT,
  rule     TEXT,
  actor    TEXT,
  since    INTEGER,
  until    INTEGER,             -- NULL = never lapses
  isolated INTEGER,
  renewing TEXT,
  tries    INTEGER,
  retry    INTEGER,
  ended_by TEXT,
  sent     INTEGER,             -- 1 = the release that ended it has begun
  crossed  INTEGER,             -- 1 = and the isolation was being sent then
  end      TEXT,                -- NULL = it holds
  ended    INTEGER,
  open     INTEGER              -- 1 = it holds, or the release that ended it has not gone through; else NULL
);
CREATE UNIQUE INDEX leases_order ON leases (order_id);
CREATE INDEX        leases_open  ON leases (seq) WHERE open IS NOT NULL;

-- What the guards have to remember for a while beside the orders.
CREATE TABLE facts (
  seq      INTEGER PRIMARY KEY,
  what     TEXT NOT NULL,
  key      TEXT,
  order_id TEXT NOT NULL,
  task     TEXT,
  source   TEXT,
  rule     TEXT,
  at       INTEGER NOT NULL,
  until    INTEGER NOT NULL
);
-- Only these are ever taken back.
CREATE INDEX facts_order ON facts (order_id) WHERE what IN ('charge', 'flip');

-- Documents nobody could read, until a person retries or drops them.
CREATE TABLE letters (
  seq      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL,
  source   TEXT,
  entry    TEXT,               -- the transport's own id of the document
  document BLOB,
  error    TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  retry    INTEGER,            -- when a person asked for another attempt
  retry_by TEXT
);
CREATE UNIQUE INDEX letters_id    ON letters (id);
CREATE INDEX        letters_retry ON letters (seq) WHERE retry IS NOT NULL;

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,      -- "hold", "resumed", "clock", "hosts", "position/<source>", "audit/…"
  value TEXT NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 1;
