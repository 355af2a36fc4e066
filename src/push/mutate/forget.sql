-- Of the failures of user $1's client $2 the newest $3 are kept.
DELETE FROM snapsync.mutation_failure
WHERE who = $1 AND client_id = $2
  AND id <= (SELECT id FROM snapsync.mutation_failure WHERE who = $1 AND client_id = $2 ORDER BY id DESC OFFSET $3 LIMIT 1)
