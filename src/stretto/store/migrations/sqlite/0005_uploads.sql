-- Source trees that were sent as a git pack of one commit. `id` stands for all of a row but the times; packs are kept by digest.

CREATE TABLE upload (
    id TEXT PRIMARY KEY CHECK (length(id) = 64),
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    commit_id TEXT NOT NULL,
    commit_message TEXT NOT NULL,
    repository TEXT NOT NULL,
    branch TEXT,
    size_bytes INTEGER NOT NULL,
    submitted_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL                   -- when it was sent, or asked for by a new run, last
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_by_digest ON upload (digest);
