-- Times are integer nanoseconds since 1970 UTC, NULL = not known. Empty text is NULL.

-- Documents as received, with what names them; everything else is read from raw by the mapper.
CREATE TABLE alerts (
  seq      INTEGER PRIMARY KEY,
  source   TEXT,
  id       TEXT,
  preset   TEXT,
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
  dedupe_until  INTEGER,       -- NULL = covers nothing; negative = covers nothing because it came to nothing
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
  intent_body   TEXT
);
CREATE UNIQUE INDEX orders_id     ON orders (id);
CREATE INDEX        orders_state  ON orders (state);
-- Read from end to end by every listing: growing only at its end it costs a tenth of an index by host.
CREATE INDEX        orders_scan   ON orders (seq, admitted, host, rule, task, source, alert_id);
CREATE INDEX        orders_dedupe ON orders (dedupe, dedupe_until) WHERE dedupe_until IS NOT NULL;
CREATE UNIQUE INDEX orders_intent ON orders (intent_key, intent_second) WHERE intent_key IS NOT NULL;

-- Each record's hash is SHA-256 over the hash of the record before it and its own fields, length-prefixed
-- in the order of the columns. The first one follows 32 zero bytes.
CREATE TABLE audit (
  seq         INTEGER PRIMARY KEY,
  time        INTEGER NOT NULL,
  what        TEXT NOT NULL,
  order_seq   INTEGER,
  order_id    TEXT,
  state_from  TEXT,
  state_to    TEXT,
  reason      TEXT,
  rule        TEXT,
  task        TEXT,
  host        TEXT,
  source      TEXT,
  actor       TEXT,
  count       INTEGER,
  detail      TEXT,
  alert       BLOB,            -- SHA-256 of the document
  payload     BLOB,            -- SHA-256 of the body that is sent, else of the params
  hash        BLOB NOT NULL
);
CREATE INDEX audit_order ON audit (order_seq) WHERE order_seq IS NOT NULL;

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,      -- "hold", "position/<source>"
  value TEXT NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 1;
