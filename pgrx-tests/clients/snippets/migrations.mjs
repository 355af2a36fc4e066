import { appSchema, tableSchema } from '@nozbe/watermelondb/Schema/index.js'
import { addColumns, createTable, schemaMigrations } from '@nozbe/watermelondb/Schema/migrations/index.js'

const make = { add_columns: addColumns, create_table: createTable }

// The app's schema, and what leads to it from that of an older version.
export async function appOf(supabase, collections, olderVersion = null) {
  const { data } = await supabase
    .rpc('pull_schema', { collections, dialect: 'watermelondb', schema_version: olderVersion })
    .throwOnError()
  if (data.migrations === null) throw new Error('there are no such steps: devices start anew')
  const schema = appSchema({ ...data.schema, tables: data.schema.tables.map(tableSchema) })
  const migrations = data.migrations?.map(({ toVersion, steps }) => ({
    toVersion, steps: steps.map(({ type, ...step }) => make[type](step)),
  }))
  return { schema, migrations: migrations?.length ? schemaMigrations({ migrations }) : undefined }
}
