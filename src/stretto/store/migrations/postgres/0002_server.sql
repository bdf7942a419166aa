-- What a server needs of runs: an order among them, where their attempts are, and what was asked before it is compiled.

ALTER TABLE run
    ADD COLUMN priority bigint NOT NULL DEFAULT 0,
    ADD COLUMN place text NOT NULL DEFAULT '',         -- whose back-ends its attempts are on
    ADD COLUMN retry_of bigint,                        -- number of the run whose jobs it does again
    ADD COLUMN undefined boolean NOT NULL DEFAULT false;   -- it has no spec, but a submission

ALTER TABLE worker ADD COLUMN place text NOT NULL DEFAULT '';

-- What may be taken, so that a conductor finds the next run of each user however many wait. A run that is held is found by `run_held`.
CREATE INDEX run_free ON run (undefined, priority, submitted_by, number) WHERE NOT held AND ended_at IS NULL;
CREATE INDEX run_undefined ON run (number) WHERE undefined AND ended_at IS NULL;

-- A run that was accepted and has no spec yet: what was asked. The row goes when the run is defined.
CREATE TABLE submission (
    run bigint PRIMARY KEY REFERENCES run (number) ON DELETE CASCADE,
    body text NOT NULL,
    accepted_at bigint NOT NULL,
    published_at bigint                        -- when the queue was told of it last
) WITH (fillfactor = 70);
