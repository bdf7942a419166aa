-- Runs and what belongs to them. `event` is the truth; `run`, `job`, `attempt` and `artifact` are projections of it that are
-- written in the same transaction. Times are microseconds since 1970-01-01 UTC. A job is known by its place in the spec.

CREATE TABLE run (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 26),
    idempotency_key TEXT UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'queued', 'running', 'waiting', 'success', 'failed', 'canceled', 'skipped')),
    reason TEXT,
    message TEXT,
    repository TEXT,
    branch TEXT,
    commit_id TEXT,
    commit_message TEXT,
    driver TEXT,
    submitted_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    owner TEXT,                                -- the conductor that holds the run, or held it last
    held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    fence INTEGER NOT NULL DEFAULT 0,          -- grows with every claim and release; a write must name the current one
    seq INTEGER NOT NULL                       -- of the last event
) STRICT;

CREATE INDEX run_by_name ON run (name, number);
CREATE INDEX run_by_repository ON run (repository, branch, number);
CREATE INDEX run_by_status ON run (status, number);

-- Apart from `run`, whose row is rewritten with every commit while a spec may have megabytes.
CREATE TABLE spec (
    run INTEGER PRIMARY KEY REFERENCES run (number) ON DELETE CASCADE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    seq INTEGER NOT NULL CHECK (seq > 0),
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
    run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    stage TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'queued', 'running', 'waiting', 'success', 'failed', 'canceled', 'skipped')),
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    started_at INTEGER,
    ended_at INTEGER,
    PRIMARY KEY (run, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    job INTEGER NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    status TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed', 'canceled')),
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    starting_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    handle TEXT,
    PRIMARY KEY (run, job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
    run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    digest TEXT NOT NULL,
    executable INTEGER NOT NULL CHECK (executable IN (0, 1)),
    link TEXT,
    PRIMARY KEY (run, job, attempt, path)
) STRICT, WITHOUT ROWID;

-- What other processes ask of a run's conductor. AUTOINCREMENT: an id that was settled never comes again.
CREATE TABLE request (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    asked_at INTEGER NOT NULL
) STRICT;

CREATE INDEX request_by_run ON request (run, id);

-- One row per conductor: its lease, and which process it is, so that on its own host its death is seen at once.
CREATE TABLE worker (
    owner TEXT PRIMARY KEY,
    lease_until INTEGER NOT NULL,
    host TEXT NOT NULL,
    realm TEXT NOT NULL,                       -- boot and PID namespace within which `pid` means something
    pid INTEGER NOT NULL,
    process_start INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
