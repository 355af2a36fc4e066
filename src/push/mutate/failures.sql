-- Which of the mutations $3 to $4 of user $1's client $2 have failed, and why (mutate.rs, `Failure`).
SELECT row_to_json(f)
FROM (SELECT id, name, code, message, constraint_name FROM snapsync.mutation_failure
      WHERE who = $1 AND client_id = $2 AND id BETWEEN $3 AND $4) AS f
ORDER BY id
