-- Who may use a server, and who did what. Times are microseconds since 1970-01-01 UTC.

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,                      -- SHA-256 of the secret in hex; the secret itself is nowhere
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'run', 'admin')),
    repositories TEXT NOT NULL,                -- JSON list of patterns; an empty one means all
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    used_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,                         -- name of the token, empty where nobody was known
    token TEXT,                                -- its id
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    address TEXT NOT NULL,                     -- where it came from
    outcome TEXT NOT NULL
) STRICT;
