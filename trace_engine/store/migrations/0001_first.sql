-- The first tables. All times are microseconds since 1970-01-01 in UTC; documents are JSON text.
-- A line that ends with a comment naming a database is for that database alone.

CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES
    ('finding', 0), ('outcome', 0), ('audit', 0), ('reject', 0), ('delivery', 0), ('plan', 0);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- What findings are filtered and ordered by, apart from their documents: these rows are narrow, so
-- that reading many of them stays cheap.
CREATE TABLE finding (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    id BIGINT NOT NULL UNIQUE,
    finding_id TEXT NOT NULL UNIQUE,
    detector TEXT NOT NULL,
    family TEXT NOT NULL,
    severity DOUBLE PRECISION,
    event_time BIGINT,
    subject_id TEXT,
    subject_type TEXT,
    drug_id TEXT,
    batch_no TEXT,
    region TEXT,
    province TEXT,
    city TEXT,
    jurisdiction TEXT,
    code_count BIGINT,
    amount DOUBLE PRECISION,
    late BOOLEAN NOT NULL,
    revision INTEGER NOT NULL,
    first_offset BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    stored_at BIGINT NOT NULL
);
CREATE INDEX finding_detector ON finding (detector, number);
CREATE INDEX finding_family ON finding (family, number);
CREATE INDEX finding_subject ON finding (subject_id, number);
CREATE INDEX finding_drug ON finding (drug_id, number);
CREATE INDEX finding_batch ON finding (batch_no, number);
CREATE INDEX finding_region ON finding (region, number);
CREATE INDEX finding_city ON finding (city, number);
CREATE INDEX finding_province ON finding (province, number);
CREATE INDEX finding_jurisdiction ON finding (jurisdiction, number);
CREATE INDEX finding_late ON finding (late, number);
CREATE INDEX finding_severity ON finding (severity, number);
CREATE INDEX finding_event_time ON finding (event_time, number);

CREATE TABLE finding_document (
    id INTEGER PRIMARY KEY REFERENCES finding (id) ON DELETE CASCADE, -- sqlite
    id BIGINT PRIMARY KEY REFERENCES finding (id) ON DELETE CASCADE, -- postgresql
    document TEXT NOT NULL
);

CREATE TABLE finding_code (
    code TEXT NOT NULL,
    id BIGINT NOT NULL,
    PRIMARY KEY (code, id)
) WITHOUT ROWID; -- sqlite
); -- postgresql

CREATE TABLE outcome (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    outcome_id TEXT NOT NULL UNIQUE,
    enterprise_id TEXT,
    stored_at BIGINT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX outcome_enterprise ON outcome (enterprise_id, number);

-- Only a keyed digest of a key is kept; salt and digest are hexadecimal.
CREATE TABLE api_key (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    salt TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_key ON audit (key_id, number);
CREATE INDEX audit_action ON audit (action, number);
CREATE INDEX audit_subject ON audit (subject, number);

CREATE TABLE reject (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    record_offset BIGINT NOT NULL,
    source TEXT NOT NULL,
    file TEXT,
    row_number BIGINT,
    column_name TEXT,
    reason TEXT,
    detail TEXT,
    raw TEXT,
    stored_at BIGINT NOT NULL
);
CREATE INDEX reject_record ON reject (record_offset, source);
CREATE INDEX reject_reason ON reject (reason, number);

-- The secret signs what is sent, so it must be readable; this database is to be guarded for it.
CREATE TABLE webhook (
    webhook_id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    filters TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    queued_through BIGINT NOT NULL,
    disabled_reason TEXT
);

CREATE TABLE delivery (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    webhook_id TEXT NOT NULL REFERENCES webhook (webhook_id) ON DELETE CASCADE,
    event_key TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    UNIQUE (webhook_id, event_key)
);
CREATE INDEX delivery_due ON delivery (state, next_attempt);
CREATE INDEX delivery_webhook ON delivery (webhook_id, number);
CREATE INDEX delivery_waiting ON delivery (webhook_id, state, number);

CREATE TABLE plan (
    number INTEGER PRIMARY KEY, -- sqlite
    number BIGINT PRIMARY KEY, -- postgresql
    plan_id TEXT NOT NULL UNIQUE,
    made_at BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    document TEXT NOT NULL
);
