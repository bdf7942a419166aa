-- Rows that go in by the many are given as one JSON text, whose keys are the columns': a statement has the same few parameters
-- however many rows there are, and so is planned once.

-- name: submit_runs
-- The head of a submission: runs with the spec or the request of each, but for those whose key is known. Those that are not among
-- what it returns are there already: their key is, or they are themselves, written by a statement whose answer was lost.
WITH asked AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(runs)s) AS row (n bigint, id text, key text, kind text, name text, status text, repository text,
                                             branch text, commit text, commit_message text, driver text, by text,
                                             created_at bigint, priority bigint, retry_of bigint, seq bigint, request text,
                                             spec text)
), new AS (
    INSERT INTO run (id, idempotency_key, kind, name, status, repository, branch, commit_id, commit_message, driver,
                     submitted_by, created_at, priority, retry_of, seq, undefined)
    SELECT id, key, kind, name, status, repository, branch, commit, commit_message, driver, by, created_at, priority, retry_of,
           seq, spec IS NULL
    FROM asked
    WHERE NOT EXISTS (SELECT FROM run WHERE run.idempotency_key = asked.key)
    ORDER BY n
    ON CONFLICT DO NOTHING
    RETURNING *
), stored AS MATERIALIZED (
    SELECT asked.n, asked.request, asked.spec AS spec_body, new.* FROM new JOIN asked USING (id)
), specs AS (
    INSERT INTO spec (run, body) SELECT number, spec_body FROM stored WHERE spec_body IS NOT NULL
), requests AS (
    INSERT INTO submission (run, body, accepted_at) SELECT number, request, micros_now() FROM stored WHERE spec_body IS NULL
)

-- name: submit_events
, events AS (
    INSERT INTO event (run, seq, kind, at, body)
    SELECT stored.number, row.seq, row.kind, row.at, row.body
    FROM json_to_recordset(%(events)s) AS row (n bigint, seq bigint, kind text, at bigint, body text) JOIN stored USING (n)
)

-- name: submit_jobs
, jobs AS (
    INSERT INTO job (run, job, name, stage, status, reason, message, exit_code, started_at, ended_at)
    SELECT stored.number, row.job, row.name, row.stage, row.status, row.reason, row.message, row.exit_code, row.started_at,
           row.ended_at
    FROM json_to_recordset(%(jobs)s) AS row (n bigint, job bigint, name text, stage text, status text, reason text,
                                             message text, exit_code bigint, started_at bigint, ended_at bigint)
    JOIN stored USING (n)
)

-- name: submit_artifacts
, artifacts AS (
    INSERT INTO artifact (run, job, attempt, path, size_bytes, digest, executable, link)
    SELECT stored.number, row.job, row.attempt, row.path, row.size_bytes, row.digest, row.executable, row.link
    FROM json_to_recordset(%(artifacts)s) AS row (n bigint, job bigint, attempt bigint, path text, size_bytes bigint,
                                                  digest text, executable boolean, link text)
    JOIN stored USING (n)
    ON CONFLICT DO NOTHING
)

-- name: submit_end
SELECT n, id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM stored;

-- name: lock_keys
-- Two that submit under the same keys take turns, so that the second finds what the first stored, and neither waits for the other.
-- A statement of its own, as the next one must see what was committed meanwhile. The keys are sorted.
SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key;

-- name: select_submitted
-- Of each run that was not stored now the one that is there instead, or it itself.
SELECT row.n, known.id, known.number, known.kind, known.name, known.status, known.reason, known.message, known.repository,
       known.branch, known.commit_id, known.commit_message, known.created_at, known.started_at, known.ended_at, known.owner,
       known.priority, known.submitted_by, known.retry_of
FROM json_to_recordset(%(runs)s) AS row (n bigint, id text, key text) CROSS JOIN LATERAL (
    SELECT * FROM run WHERE run.id = row.id UNION SELECT * FROM run WHERE run.idempotency_key = row.key
) AS known;

-- name: define_run
-- Give an undefined run its spec and jobs, under the newest claim only.
WITH defined AS (
    UPDATE run SET kind = %(kind)s, name = %(name)s, repository = %(repository)s, branch = %(branch)s, commit_id = %(commit)s,
                   commit_message = %(commit_message)s, undefined = false
    WHERE id = %(id)s AND fence = %(fence)s AND held AND undefined
    RETURNING *
), request AS (
    DELETE FROM submission USING defined WHERE submission.run = defined.number
), specs AS (
    INSERT INTO spec (run, body) SELECT number, %(spec)s FROM defined
), jobs AS (
    INSERT INTO job (run, job, name, stage, status)
    SELECT defined.number, row.job, row.name, row.stage, 'pending'
    FROM defined, json_to_recordset(%(jobs)s) AS row (job bigint, name text, stage text)
)
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM defined;

-- name: select_defined
-- The run, if it is defined and held under this claim.
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE id = %s AND fence = %s AND held AND NOT undefined;

-- name: select_unpublished
-- Undefined runs that the queue was never told of, or was told of long ago; how long is in microseconds.
SELECT run.id
FROM run JOIN submission ON submission.run = run.number
WHERE run.undefined AND run.ended_at IS NULL
  AND (submission.published_at IS NULL AND submission.accepted_at <= micros_now() - %(older)s
       OR submission.published_at <= micros_now() - %(again)s)
ORDER BY run.number LIMIT %(limit)s;

-- name: mark_published
UPDATE submission SET published_at = micros_now() FROM run WHERE run.number = submission.run AND run.id = ANY (%s);

-- name: append_runs
-- The head of an append: passes those runs whose claim is the newest and whose last event is the one before the first to be
-- appended; `n` tells which. So an append that was written, though its answer was lost, is not written twice.
WITH passed AS (
    UPDATE run SET seq = row.seq + row.count, status = row.status, reason = row.reason, message = row.message,
                   started_at = row.started_at, ended_at = row.ended_at
    FROM json_to_recordset(%(runs)s) AS row (n bigint, id text, fence bigint, seq bigint, count bigint, status text, reason text,
                                             message text, started_at bigint, ended_at bigint)
    WHERE run.id = row.id AND run.fence = row.fence AND run.seq = row.seq AND run.held
    RETURNING row.n, run.number, run.fence
)

-- name: append_events
, events AS (
    INSERT INTO event (run, seq, kind, at, body, fence)
    SELECT passed.number, row.seq, row.kind, row.at, row.body, passed.fence
    FROM json_to_recordset(%(events)s) AS row (n bigint, seq bigint, kind text, at bigint, body text)
    JOIN passed USING (n)
)

-- name: append_jobs
-- Materialized, so that whatever the planner believes of the tables' sizes, a job is looked up by its whole key.
, changed AS MATERIALIZED (
    SELECT passed.number AS run, row.*
    FROM json_to_recordset(%(jobs)s) AS row (n bigint, job bigint, status text, reason text, message text, exit_code bigint,
                                             started_at bigint, ended_at bigint)
    JOIN passed USING (n)
), jobs AS (
    UPDATE job SET status = changed.status, reason = changed.reason, message = changed.message,
                   exit_code = changed.exit_code, started_at = changed.started_at, ended_at = changed.ended_at
    FROM changed
    WHERE job.run = changed.run AND job.job = changed.job
)

-- name: append_attempts
, attempts AS (
    INSERT INTO attempt (run, job, number, status, reason, message, exit_code, starting_at, started_at, ended_at, handle)
    SELECT passed.number, row.job, row.number, row.status, row.reason, row.message, row.exit_code, row.starting_at,
           row.started_at, row.ended_at, row.handle
    FROM json_to_recordset(%(attempts)s) AS row (n bigint, job bigint, number bigint, status text, reason text, message text,
                                                 exit_code bigint, starting_at bigint, started_at bigint, ended_at bigint,
                                                 handle text)
    JOIN passed USING (n)
    ON CONFLICT (run, job, number) DO UPDATE SET
        status = excluded.status, reason = excluded.reason, message = excluded.message, exit_code = excluded.exit_code,
        started_at = excluded.started_at, ended_at = excluded.ended_at, handle = excluded.handle
)

-- name: append_artifacts
-- Two names that are no valid UTF-8 may look the same as text; the events tell them apart.
, artifacts AS (
    INSERT INTO artifact (run, job, attempt, path, size_bytes, digest, executable, link)
    SELECT passed.number, row.job, row.attempt, row.path, row.size_bytes, row.digest, row.executable, row.link
    FROM json_to_recordset(%(artifacts)s) AS row (n bigint, job bigint, attempt bigint, path text, size_bytes bigint,
                                                  digest text, executable boolean, link text)
    JOIN passed USING (n)
    ON CONFLICT DO NOTHING
)

-- name: append_settled
, settled AS (
    DELETE FROM request USING json_to_recordset(%(settled)s) AS row (n bigint, id bigint) JOIN passed USING (n)
    WHERE request.id = row.id AND request.run = passed.number
)

-- name: append_end
SELECT n FROM passed;

-- name: select_seqs
-- The last event of each run that is held under the claim given.
SELECT row.n, run.seq
FROM json_to_recordset(%(runs)s) AS row (n bigint, id text, fence bigint) JOIN run ON run.id = row.id
WHERE run.fence = row.fence AND run.held;

-- name: select_written
-- Those runs whose event of this number was written under the claim given.
SELECT row.n
FROM json_to_recordset(%(runs)s) AS row (n bigint, id text, fence bigint, last bigint) JOIN run ON run.id = row.id
     JOIN event ON event.run = run.number AND event.seq = row.last AND event.fence = row.fence;

-- name: insert_request
INSERT INTO request (run, kind, body, asked_at) SELECT number, %s, %s, micros_now() FROM run WHERE id = %s;

-- name: select_requests
SELECT request.id, run.id, request.kind, request.body
FROM run JOIN request ON request.run = run.number
WHERE run.id = %s ORDER BY request.id;

-- name: lock_run
-- A statement of its own: one that waits for a lock sees everything but the row that it locks as it was before.
SELECT FROM run WHERE id = %s FOR UPDATE;

-- name: select_holder
-- Who holds the run, and of that conductor whether its lease is alive, and its process; none if it never had one.
SELECT run.number, run.held AND worker.lease_until > micros_now(), run.owner, run.fence, run.seq, worker.host, worker.realm,
       worker.pid, worker.process_start
FROM run LEFT JOIN worker ON worker.owner = run.owner
WHERE run.id = %s;

-- name: claim_run
UPDATE run SET owner = %s, fence = %s, place = %s, held = true WHERE id = %s;

-- name: select_neighbours
-- Conductors whose lease is alive and that this host can tell to be dead or not.
SELECT owner, host, realm, pid, process_start FROM worker WHERE realm = %s AND lease_until > micros_now();

-- name: select_wanted
-- Runs that may be taken, locked, in the order in which they are taken: those of higher priority first, then in turns between
-- those who submitted them, counting what each has under way. A run whose attempts are at another place is left to that place.
-- `dead` are owners whose process is known to be over; `most` is how many of one user are looked at, those included that
-- another conductor takes at the same moment (they are locked, and passed over).
-- Every access is by an index: the users are found one after the other (`queue`), then the first runs of each. `IS NULL` and not
-- `NOT EXISTS`, for which all attempts there are may be read and hashed.
WITH RECURSIVE held AS MATERIALIZED (
    SELECT run.number, run.fence, run.undefined, run.priority, run.submitted_by, run.place,
           coalesce(worker.lease_until > micros_now() AND worker.owner <> ALL (%(dead)s), false) AS alive
    FROM run LEFT JOIN worker USING (owner)
    WHERE run.held AND run.ended_at IS NULL
), heard AS MATERIALIZED (
    SELECT place FROM worker WHERE lease_until > micros_now() - %(abandon)s
), queue AS (
    (SELECT undefined, priority, submitted_by FROM run
     WHERE NOT held AND ended_at IS NULL AND undefined <= %(undefined)s
     ORDER BY undefined, priority, submitted_by LIMIT 1)
    UNION ALL
    SELECT next.undefined, next.priority, next.submitted_by
    FROM queue CROSS JOIN LATERAL (
        SELECT undefined, priority, submitted_by FROM run
        WHERE NOT held AND ended_at IS NULL AND undefined <= %(undefined)s
          AND (undefined, priority, submitted_by) > (queue.undefined, queue.priority, queue.submitted_by)
        ORDER BY undefined, priority, submitted_by LIMIT 1
    ) AS next
), free AS (
    SELECT first.number, first.fence, queue.priority, queue.submitted_by
    FROM queue CROSS JOIN LATERAL (
        SELECT run.number, run.fence FROM run
        WHERE NOT run.held AND run.ended_at IS NULL AND run.undefined = queue.undefined AND run.priority = queue.priority
          AND run.submitted_by = queue.submitted_by
          AND (run.place IN ('', %(place)s) OR run.place NOT IN (SELECT place FROM heard)
               OR (SELECT attempt.run FROM attempt WHERE attempt.run = run.number AND attempt.status = 'running' LIMIT 1) IS NULL)
        ORDER BY run.number LIMIT %(most)s
    ) AS first
    UNION ALL
    SELECT held.number, held.fence, held.priority, held.submitted_by
    FROM held
    WHERE NOT held.alive AND held.undefined <= %(undefined)s
      AND (held.place IN ('', %(place)s) OR held.place NOT IN (SELECT place FROM heard)
           OR (SELECT attempt.run FROM attempt WHERE attempt.run = held.number AND attempt.status = 'running' LIMIT 1) IS NULL)
), turns AS (
    SELECT free.number, free.fence, free.priority,
           coalesce(busy.runs, 0) + row_number() OVER (
               PARTITION BY free.submitted_by, free.priority ORDER BY free.number
           ) AS turn
    FROM free LEFT JOIN (SELECT submitted_by, count(*) AS runs FROM held GROUP BY submitted_by) AS busy USING (submitted_by)
)
SELECT taken.number, taken.id, taken.fence, taken.seq
FROM (SELECT number, fence FROM turns ORDER BY priority DESC, turn, number) AS turns CROSS JOIN LATERAL (
    SELECT run.number, run.id, run.fence, run.seq FROM run
    WHERE run.number = turns.number AND run.fence = turns.fence AND run.ended_at IS NULL
    FOR NO KEY UPDATE SKIP LOCKED
) AS taken
LIMIT %(limit)s;

-- name: claim_runs
-- Take runs that are locked.
UPDATE run SET owner = %(owner)s, fence = fence + 1, place = %(place)s, held = true WHERE number = ANY (%(numbers)s);

-- name: select_claimed
-- Of these runs those that the owner holds.
SELECT number, fence FROM run WHERE number = ANY (%(numbers)s) AND owner = %(owner)s AND held;

-- name: release_runs
-- The fence moves on, so that nothing is written under a claim that was given back.
UPDATE run SET fence = run.fence + 1, held = false
FROM json_to_recordset(%(claims)s) AS row (n bigint, id text, fence bigint)
WHERE run.id = row.id AND run.fence = row.fence AND run.held
RETURNING row.n;

-- name: select_released
-- Those claims that were given back and whose runs nobody took since.
SELECT row.n
FROM json_to_recordset(%(claims)s) AS row (n bigint, id text, fence bigint) JOIN run ON run.id = row.id
WHERE run.fence = row.fence + 1 AND NOT run.held;

-- name: write_lease
-- Start or renew a lease, and forget conductors whose lease ran out long ago and that hold no run.
WITH forgotten AS (
    DELETE FROM worker
    WHERE lease_until < micros_now() - %(keep)s AND owner <> %(owner)s
      AND NOT EXISTS (SELECT FROM run WHERE run.owner = worker.owner AND run.held)
)
INSERT INTO worker (owner, lease_until, host, realm, pid, process_start, place)
VALUES (%(owner)s, micros_now() + %(lease)s, %(host)s, %(realm)s, %(pid)s, %(start)s, %(place)s)
ON CONFLICT (owner) DO UPDATE SET
    lease_until = excluded.lease_until, host = excluded.host, realm = excluded.realm, pid = excluded.pid,
    process_start = excluded.process_start, place = excluded.place;

-- name: start_lease
-- Give a lease to a conductor that has none that is alive.
INSERT INTO worker (owner, lease_until, host, realm, pid, process_start, place)
VALUES (%(owner)s, micros_now() + %(lease)s, %(host)s, %(realm)s, %(pid)s, %(start)s, %(place)s)
ON CONFLICT (owner) DO UPDATE SET
    lease_until = excluded.lease_until, host = excluded.host, realm = excluded.realm, pid = excluded.pid,
    process_start = excluded.process_start, place = excluded.place
WHERE worker.lease_until < micros_now();

-- name: select_run_by_number
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE number = %s;

-- name: select_runs_by_prefix
-- Enough runs whose id starts with the text to tell whether it is unambiguous; '~' sorts after every character of an id.
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run WHERE id >= %(prefix)s AND id < %(prefix)s || '~' ORDER BY id LIMIT 3;

-- name: select_runs
-- The newest runs that match; a parameter that is NULL matches all.
SELECT id, number, kind, name, status, reason, message, repository, branch, commit_id, commit_message, created_at,
       started_at, ended_at, owner, priority, submitted_by, retry_of
FROM run
WHERE (%(before)s::bigint IS NULL OR number < %(before)s)
  AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
  AND (%(name)s::text IS NULL OR name = %(name)s)
  AND (%(repository)s::text IS NULL OR repository = %(repository)s)
  AND (%(branch)s::text IS NULL OR branch = %(branch)s)
  AND (%(by)s::text IS NULL OR submitted_by = %(by)s)
ORDER BY number DESC LIMIT %(limit)s;

-- name: select_stored
-- All of a run in one statement, and so of one moment: its row, its spec or, while it has none, what was asked; its events.
SELECT run.id, run.number, run.kind, run.name, run.status, run.reason, run.message, run.repository, run.branch,
       run.commit_id, run.commit_message, run.created_at, run.started_at, run.ended_at, run.owner, run.priority,
       run.submitted_by, run.retry_of, spec.body, submission.body,
       (SELECT json_agg(json_build_array(event.kind, event.at, event.body) ORDER BY event.seq)
        FROM event WHERE event.run = run.number)
FROM run LEFT JOIN spec ON spec.run = run.number LEFT JOIN submission ON submission.run = run.number
WHERE run.id = %s;

-- name: select_events
SELECT event.seq, event.kind, event.at, event.body
FROM event JOIN run ON run.number = event.run
WHERE run.id = %s AND event.seq > %s ORDER BY event.seq;

-- name: delete_run
-- Delete a run that is over, and through the foreign keys all that belongs to it.
DELETE FROM run WHERE id = %s AND status IN ('success', 'failed', 'canceled', 'skipped');

-- name: select_channel
-- The channel of this schema's stores, and where the write-ahead log ends.
SELECT 'stretto_' || (SELECT oid FROM pg_namespace WHERE nspname = current_schema()), pg_current_wal_insert_lsn()::text;

-- name: select_log_end
-- Where the write-ahead log ends: it moves whenever anything is written. Read from memory.
SELECT pg_current_wal_insert_lsn()::text;

-- name: notify
SELECT pg_notify(%s, %s);
