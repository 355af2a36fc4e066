-- The settings of table $1: the one place where they are read (registry.rs, `CollectionSettings`).
SELECT row_to_json(s)
FROM (SELECT name, qualified_name, key, columns, exclude, readonly, image, found_scope, scope_column, scope_values, scope_reads::text,
             soft_delete_column, conflict, version_column, conflict_function, conflict_owner, access_tables::text, notify
      FROM snapsync.collection WHERE relation = $1) AS s
