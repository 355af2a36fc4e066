-- What user $1's push_id $2 was answered, from which stamp on it was carried out, and whether it was for the changes $3 (once.rs, `Answered`).
SELECT json_build_object('same_changes', digest = sha256(convert_to($3, 'UTF8')), 'answer', answer, 'since', since)
FROM snapsync.push WHERE who = $1 AND push_id = $2::uuid
