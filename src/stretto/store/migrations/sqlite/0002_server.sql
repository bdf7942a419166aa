-- What a server needs of runs: an order among them, where their attempts are, and what was asked before it is compiled.

ALTER TABLE run ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN place TEXT NOT NULL DEFAULT '';    -- whose back-ends its attempts are on
ALTER TABLE run ADD COLUMN retry_of INTEGER;                  -- number of the run whose jobs it does again
ALTER TABLE worker ADD COLUMN place TEXT NOT NULL DEFAULT '';

CREATE INDEX run_open ON run (priority DESC, number) WHERE ended_at IS NULL;
CREATE INDEX run_held ON run (submitted_by) WHERE held = 1 AND ended_at IS NULL;

-- A run that was accepted and has no spec yet: what was asked. The row goes when the run is defined.
CREATE TABLE submission (
    run INTEGER PRIMARY KEY REFERENCES run (number) ON DELETE CASCADE,
    body TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    published_at INTEGER                       -- when the queue was told of it last
) STRICT;
