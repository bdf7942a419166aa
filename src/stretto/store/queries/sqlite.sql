-- name: insert_run
-- Store a run; its number is the next one of the store, even if runs were deleted.
INSERT INTO run (id, idempotency_key, kind, name, status, repository, branch, commit_id, commit_message, driver,
                 submitted_by, created_at, priority, seq)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1);

-- name: set_retry
UPDATE run SET retry_of = ? WHERE number = ?;

-- name: set_seq
UPDATE run SET seq = ? WHERE number = ?;

-- name: insert_submission
INSERT INTO submission (run, body, accepted_at) VALUES (?, ?, ?);

-- name: select_submission
SELECT submission.body FROM submission JOIN run ON run.number = submission.run WHERE run.id = ?;

-- name: delete_submission
DELETE FROM submission WHERE run = ?;

-- name: select_unpublished
-- Undefined runs that the queue was never told of, or was told of long ago.
SELECT run.id FROM submission JOIN run ON run.number = submission.run
WHERE run.ended_at IS NULL
  AND (submission.published_at IS NULL AND submission.accepted_at <= ? OR submission.published_at <= ?)
ORDER BY run.number LIMIT ?;

-- name: mark_published
UPDATE submission SET published_at = ? WHERE run = (SELECT number FROM run WHERE id = ?);

-- name: define_run
UPDATE run SET kind = ?, name = ?, repository = ?, branch = ?, commit_id = ?, commit_message = ? WHERE number = ?;

-- name: insert_spec
INSERT INTO spec (run, body) VALUES (?, ?);

-- name: insert_job
INSERT INTO job (run, job, name, stage, status) VALUES (?, ?, ?, ?, ?);

-- name: insert_event
INSERT INTO event (run, seq, kind, at, body) VALUES (?, ?, ?, ?, ?);

-- name: pass_fence
-- The run's number and last event, for the holder of the newest claim only.
SELECT number, seq FROM run WHERE id = ? AND fence = ? AND held;

-- name: advance_run
UPDATE run SET seq = ?, status = ?, reason = ?, message = ?, started_at = ?, ended_at = ? WHERE number = ?;

-- name: update_job
UPDATE job SET status = ?, reason = ?, message = ?, exit_code = ?, started_at = ?, ended_at = ?
WHERE run = ? AND job = ?;

-- name: write_attempt
INSERT INTO attempt (run, job, number, status, reason, message, exit_code, starting_at, started_at, ended_at, handle)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, job, number) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, message = excluded.message, exit_code = excluded.exit_code,
    started_at = excluded.started_at, ended_at = excluded.ended_at, handle = excluded.handle;

-- name: insert_artifact
-- Two names that are no valid UTF-8 may look the same as text; the events tell them apart.
INSERT INTO artifact (run, job, attempt, path, size_bytes, digest, executable, link)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: settle_request
DELETE FROM request WHERE run = ? AND id = ?;

-- name: insert_request
INSERT INTO request (run, kind, body, asked_at) SELECT number, ?, ?, ? FROM run WHERE id = ?;

-- name: select_requests
SELECT request.id, run.id, request.kind, request.body
FROM run JOIN request ON request.run = run.number
WHERE run.id = ? ORDER BY request.id;

-- name: select_holder
-- Who holds the run, and that conductor's lease and process; no process where it never had a lease.
SELECT run.id, run.number, run.held, run.owner, run.fence, worker.lease_until, worker.host, worker.realm, worker.pid,
       worker.process_start
FROM run LEFT JOIN worker ON worker.owner = run.owner
WHERE run.id = ?;

-- name: select_wanted
-- Runs that may be taken, with what `select_holder` gives of each: those of higher priority first, then in turns between those
-- who submitted them, counting what each has under way. A run whose attempts are at another place is left to that place.
WITH busy AS (
    SELECT submitted_by, count(*) AS runs FROM run WHERE held = 1 AND ended_at IS NULL GROUP BY submitted_by
), open AS (
    SELECT run.number, run.priority,
           coalesce(busy.runs, 0) + row_number() OVER (
               PARTITION BY run.submitted_by, run.priority ORDER BY run.number
           ) AS turn
    FROM run LEFT JOIN worker ON worker.owner = run.owner
             LEFT JOIN busy ON busy.submitted_by = run.submitted_by
    WHERE run.ended_at IS NULL
      AND (NOT run.held OR worker.lease_until IS NULL OR worker.lease_until <= :now OR worker.realm = :realm)
      AND (:undefined OR NOT EXISTS (SELECT 1 FROM submission WHERE submission.run = run.number))
      AND (run.place IN ('', :place)
           OR NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.run = run.number AND attempt.status = 'running')
           OR NOT EXISTS (SELECT 1 FROM worker AS there WHERE there.place = run.place AND there.lease_until > :silent))
)
SELECT run.id, run.number, run.held, run.owner, run.fence, worker.lease_until, worker.host, worker.realm, worker.pid,
       worker.process_start
FROM open JOIN run ON run.number = open.number LEFT JOIN worker ON worker.owner = run.owner
ORDER BY open.priority DESC, open.turn, open.number LIMIT :limit;

-- name: claim_run
UPDATE run SET owner = ?, fence = ?, place = ?, held = 1 WHERE id = ?;

-- name: release_run
-- The fence moves on, so that nothing is written under a claim that was given back.
UPDATE run SET fence = fence + 1, held = 0 WHERE id = ? AND fence = ? AND held;

-- name: write_lease
INSERT INTO worker (owner, lease_until, host, realm, pid, process_start, place) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (owner) DO UPDATE SET
    lease_until = excluded.lease_until, host = excluded.host, realm = excluded.realm, pid = excluded.pid,
    process_start = excluded.process_start, place = excluded.place;

-- name: select_lease
SELECT lease_until FROM worker WHERE owner = ?;

-- name: forget_workers
-- Forget conductors whose lease ran out long ago and that hold no run.
DELETE FROM worker
WHERE lease_until < ? AND NOT EXISTS (SELECT 1 FROM run WHERE run.owner = worker.owner AND run.held);

-- name: select_run
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE id = ?;

-- name: select_run_by_number
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE number = ?;

-- name: select_run_by_key
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE idempotency_key = ?;

-- name: select_runs_by_prefix
-- Enough runs whose id starts with the text to tell whether it is unambiguous; '~' sorts after every character of an id.
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE id >= :prefix AND id < :prefix || '~' ORDER BY id LIMIT 3;

-- name: select_runs
-- The newest runs that match; a parameter that is NULL matches all. `statuses` is a JSON list.
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run
WHERE (:before IS NULL OR number < :before)
  AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
  AND (:name IS NULL OR name = :name)
  AND (:repository IS NULL OR repository = :repository)
  AND (:branch IS NULL OR branch = :branch)
  AND (:by IS NULL OR submitted_by = :by)
ORDER BY number DESC LIMIT :limit;

-- name: select_spec
SELECT spec.body FROM spec JOIN run ON run.number = spec.run WHERE run.id = ?;

-- name: select_events
SELECT event.seq, event.kind, event.at, event.body
FROM event JOIN run ON run.number = event.run
WHERE run.id = ? AND event.seq > ? ORDER BY event.seq;

-- name: delete_run
-- Delete a run that is over, and through the foreign keys all that belongs to it.
DELETE FROM run WHERE id = ? AND status IN ('success', 'failed', 'canceled', 'skipped');
