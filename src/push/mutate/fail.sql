-- Mutation $3 of user $1's client $2 has failed: called $4, with SQLSTATE $5, message $6 and perhaps a constraint's name $7.
INSERT INTO snapsync.mutation_failure (who, client_id, id, name, code, message, constraint_name, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now())
ON CONFLICT (who, client_id, id) DO UPDATE
SET name = excluded.name, code = excluded.code, message = excluded.message, constraint_name = excluded.constraint_name, at = excluded.at
