-- User $1's push_id $2 is for the changes $3, and what it changes has a stamp from $4 on; no row where it is in use. Without last_pulled_at:
-- who lost the answer may have pulled before he sends the batch again.
INSERT INTO snapsync.push (who, push_id, digest, since, at) VALUES ($1, $2::uuid, sha256(convert_to($3, 'UTF8')), $4, now())
ON CONFLICT (who, push_id) DO NOTHING RETURNING true
