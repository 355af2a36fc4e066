-- Writes the settings of table $1 (registry.rs).
INSERT INTO snapsync.collection AS c (relation, name, key, columns, exclude, readonly, scope_column, scope_values,
       soft_delete_column, conflict, access_tables, version_column, conflict_function, scope_reads, notify, conflict_owner)
VALUES ($1, $2, $3::name[], $4::name[], $5::name[], $6::name[], $7::name, $8, $9::name, $10, $11::jsonb, $12::name, $13, $14::jsonb, $15, $16::name)
ON CONFLICT (relation) DO UPDATE SET name = excluded.name, key = excluded.key, columns = excluded.columns,
    exclude = excluded.exclude, readonly = excluded.readonly, scope_column = excluded.scope_column,
    scope_values = excluded.scope_values, soft_delete_column = excluded.soft_delete_column,
    conflict = excluded.conflict, access_tables = excluded.access_tables,
    version_column = excluded.version_column, conflict_function = excluded.conflict_function,
    scope_reads = excluded.scope_reads, notify = excluded.notify, conflict_owner = excluded.conflict_owner
