-- What starts runs by itself, and what tells forges how they went. Lists and maps are JSON texts; times are microseconds since
-- 1970-01-01 UTC. A secret is kept as it is: a signature can't be checked against a hash of it.

CREATE TABLE hook (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('github', 'gitlab', 'gitea', 'forgejo')),
    repository TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    branches TEXT NOT NULL,                    -- patterns; an empty list lets all pass, as does one of `paths`
    paths TEXT NOT NULL,
    pipelines TEXT NOT NULL,
    file TEXT,
    variables TEXT NOT NULL,
    driver TEXT,
    priority INTEGER NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deliveries that were signed, for a week: `key` is what tells that one came before. `runs` are the ids of what it started.
CREATE TABLE delivery (
    hook TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    branch TEXT,
    commit_id TEXT,
    sender TEXT NOT NULL,
    ignored TEXT,                              -- why it started nothing
    runs TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (hook, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_by_time ON delivery (received_at);

CREATE TABLE schedule (
    id TEXT PRIMARY KEY,
    cron TEXT NOT NULL,
    zone TEXT NOT NULL,
    repository TEXT NOT NULL,
    branch TEXT,
    pipelines TEXT NOT NULL,
    file TEXT,
    variables TEXT NOT NULL,
    driver TEXT,
    priority INTEGER NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_at INTEGER,                           -- the occurrence that started `last_runs`
    last_runs TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX schedule_due ON schedule (next_at) WHERE enabled = 1;

-- Where commit statuses go: one row per host that repositories are on. At most one of the three has the token.
CREATE TABLE forge (
    host TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('github', 'gitlab', 'gitea', 'forgejo')),
    api_url TEXT NOT NULL,
    token TEXT,
    token_env TEXT,
    token_file TEXT,
    every_run INTEGER NOT NULL CHECK (every_run IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the runs were looked through for those whose status is reported.
CREATE TABLE status_cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;

CREATE TABLE status_run (
    run INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    seen TEXT NOT NULL,                        -- the run's status when it was last looked at
    finished INTEGER NOT NULL CHECK (finished IN (0, 1))
) STRICT;

CREATE INDEX status_run_open ON status_run (run) WHERE finished = 0;

-- The newest status of each commit and context, and whether the forge has it.
CREATE TABLE status_outbox (
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    context TEXT NOT NULL,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,                      -- of the run's last event: what is older never replaces what is newer
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'success', 'failure', 'canceled')),
    wanted_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    claim TEXT NOT NULL,                       -- who sends it now, until `claimed_until`
    claimed_until INTEGER NOT NULL,
    settled INTEGER NOT NULL CHECK (settled IN (0, 1)),
    error TEXT,                                -- of the last try; with `settled`, why it was given up
    PRIMARY KEY (host, path, commit_id, context)
) STRICT, WITHOUT ROWID;

CREATE INDEX status_outbox_due ON status_outbox (due_at) WHERE settled = 0;
