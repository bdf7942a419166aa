-- Logs. A batch is one statement for all logs that have something; see postgres/logs.py.

-- name: open_log
-- The one writer from now on, and where the last one left off.
INSERT INTO log (run, job, attempt) VALUES (%s, %s, %s)
ON CONFLICT (run, job, attempt) DO UPDATE SET writer = log.writer + 1, complete = false
RETURNING number, writer, size_bytes, position;

-- name: append
-- Moves each log on by its batch, if its writer is the newest and the batch begins where the log ends; returns those it moved.
WITH batch AS (
    SELECT * FROM unnest(
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[], %b::bytea[], %b::bytea[]
    ) AS batch (log, writer, start, position, complete, times, data)
), moved AS (
    UPDATE log SET size_bytes = batch.start + octet_length(batch.data), position = batch.position, complete = batch.complete
    FROM batch
    WHERE log.number = batch.log AND log.writer = batch.writer AND log.size_bytes = batch.start AND NOT log.complete
    RETURNING log.number
), written AS (
    INSERT INTO log_chunk (log, start, times, data)
    SELECT batch.log, batch.start, batch.times, batch.data FROM batch JOIN moved ON moved.number = batch.log
    WHERE octet_length(batch.data) > 0
)
SELECT number FROM moved;

-- name: select_ends
SELECT number, writer, size_bytes, complete FROM log WHERE number = ANY (%s);

-- name: select_head
SELECT number, size_bytes, complete FROM log WHERE run = %s AND job = %s AND attempt = %s;

-- name: select_chunks
-- What holds the byte at an offset, and what begins within a piece after it.
SELECT start, times, data FROM log_chunk
WHERE log = %(log)s
  AND start >= (SELECT max(start) FROM log_chunk WHERE log = %(log)s AND start <= %(offset)s)
  AND start < %(offset)s::bigint + %(piece)s::bigint
ORDER BY start;

-- name: delete_logs
DELETE FROM log WHERE run = %s RETURNING number, size_bytes;

-- name: delete_chunks
DELETE FROM log_chunk WHERE log = ANY (%s);

-- name: select_channel
SELECT 'stretto_log_' || current_schema()::regnamespace::oid;

-- name: notify
SELECT pg_notify(%s, %s);
