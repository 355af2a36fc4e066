-- What table $1 reads, as it was when the table was looked at last.
SELECT json_build_object('access', access::oid::int8,
                         'edge', json_build_object('kind', kind, 'predicate', predicate, 'whole', whole, 'columns', columns,
                                                   'voucher', CASE WHEN NOT untracked THEN voucher END,
                                                   'refused', refused))
FROM snapsync.access
WHERE relation = $1
