-- What starts runs by itself, and what tells forges how they went. Lists and maps are JSON texts; times are microseconds since
-- 1970-01-01 UTC. A secret is kept as it is: a signature can't be checked against a hash of it.

CREATE TABLE hook (
    id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('github', 'gitlab', 'gitea', 'forgejo')),
    repository text NOT NULL,
    secret text NOT NULL,
    events text NOT NULL,
    branches text NOT NULL,                    -- patterns; an empty list lets all pass, as does one of `paths`
    paths text NOT NULL,
    pipelines text NOT NULL,
    file text,
    variables text NOT NULL,
    driver text,
    priority bigint NOT NULL,
    enabled bigint NOT NULL CHECK (enabled IN (0, 1)),
    created_by text NOT NULL,
    created_at bigint NOT NULL
);

-- Deliveries that were signed, for a week: `key` is what tells that one came before. `runs` are the ids of what it started.
CREATE TABLE delivery (
    hook text NOT NULL,
    key text NOT NULL,
    id text NOT NULL,
    event text NOT NULL,
    branch text,
    commit_id text,
    sender text NOT NULL,
    ignored text,                              -- why it started nothing
    runs text NOT NULL,
    received_at bigint NOT NULL,
    PRIMARY KEY (hook, key)
);

CREATE INDEX delivery_by_time ON delivery (received_at);

CREATE TABLE schedule (
    id text PRIMARY KEY,
    cron text NOT NULL,
    zone text NOT NULL,
    repository text NOT NULL,
    branch text,
    pipelines text NOT NULL,
    file text,
    variables text NOT NULL,
    driver text,
    priority bigint NOT NULL,
    enabled bigint NOT NULL CHECK (enabled IN (0, 1)),
    created_by text NOT NULL,
    created_at bigint NOT NULL,
    next_at bigint NOT NULL,
    last_at bigint,                           -- the occurrence that started `last_runs`
    last_runs text NOT NULL
);

CREATE INDEX schedule_due ON schedule (next_at) WHERE enabled = 1;

-- Where commit statuses go: one row per host that repositories are on. At most one of the three has the token.
CREATE TABLE forge (
    host text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('github', 'gitlab', 'gitea', 'forgejo')),
    api_url text NOT NULL,
    token text,
    token_env text,
    token_file text,
    every_run bigint NOT NULL CHECK (every_run IN (0, 1)),
    created_at bigint NOT NULL
);

-- How far the runs were looked through for those whose status is reported.
CREATE TABLE status_cursor (
    id bigint PRIMARY KEY CHECK (id = 1),
    number bigint NOT NULL
);

CREATE TABLE status_run (
    run bigint PRIMARY KEY,
    host text NOT NULL,
    path text NOT NULL,
    seen text NOT NULL,                        -- the run's status when it was last looked at
    finished bigint NOT NULL CHECK (finished IN (0, 1))
);

CREATE INDEX status_run_open ON status_run (run) WHERE finished = 0;

-- The newest status of each commit and context, and whether the forge has it.
CREATE TABLE status_outbox (
    host text NOT NULL,
    path text NOT NULL,
    commit_id text NOT NULL,
    context text NOT NULL,
    run bigint NOT NULL,
    seq bigint NOT NULL,                      -- of the run's last event: what is older never replaces what is newer
    state text NOT NULL CHECK (state IN ('pending', 'running', 'success', 'failure', 'canceled')),
    wanted_at bigint NOT NULL,
    due_at bigint NOT NULL,
    tries bigint NOT NULL,
    claim text NOT NULL,                       -- who sends it now, until `claimed_until`
    claimed_until bigint NOT NULL,
    settled bigint NOT NULL CHECK (settled IN (0, 1)),
    error text,                                -- of the last try; with `settled`, why it was given up
    PRIMARY KEY (host, path, commit_id, context)
);

CREATE INDEX status_outbox_due ON status_outbox (due_at) WHERE settled = 0;
