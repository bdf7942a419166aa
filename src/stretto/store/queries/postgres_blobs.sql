-- Bytes by their SHA-256; see postgres/blobs.py.

-- name: touch
-- Which of these are there; a collector leaves them alone for a while. In one order, so that two of this can't lock each other out.
UPDATE blob SET used_at = micros_now()
WHERE digest IN (SELECT digest FROM blob WHERE digest = ANY (%s) ORDER BY digest FOR UPDATE)
RETURNING digest;

-- name: add
-- Those of the new ones that nobody else has put; another transaction that is about to is waited for.
INSERT INTO blob (digest, size_bytes, used_at)
SELECT digest, size_bytes, micros_now() FROM unnest(%s::text[], %s::bigint[]) AS new (digest, size_bytes)
ORDER BY digest
ON CONFLICT DO NOTHING
RETURNING digest;

-- name: write
COPY blob_chunk (digest, number, data) FROM STDIN (FORMAT BINARY);

-- name: select_sizes
SELECT digest, size_bytes FROM blob WHERE digest = ANY (%s);

-- name: select_whole
SELECT digest, data FROM blob_chunk WHERE digest = ANY (%s) ORDER BY digest, number;

-- name: select_chunk
SELECT data FROM blob_chunk WHERE digest = %s AND number = %s;

-- name: select_unused
SELECT digest FROM blob
WHERE used_at < %s
  AND NOT EXISTS (SELECT FROM artifact WHERE artifact.digest = blob.digest)
  AND NOT EXISTS (SELECT FROM upload WHERE upload.digest = blob.digest);

-- name: delete
-- Whoever is about to use one has put it, and so touched it, before.
DELETE FROM blob WHERE digest = ANY (%s) AND used_at < %s RETURNING size_bytes;
