import { synchronize } from '@nozbe/watermelondb/sync/index.js'

export function sync(database, supabase, clientId) {
  const rpc = async (name, args) =>
    (await supabase.rpc(name, { ...args, dialect: 'watermelondb', client_id: clientId }).throwOnError()).data

  return synchronize({
    database,
    pullChanges: ({ lastPulledAt, schemaVersion, migration }) =>
      rpc('pull_changes', {
        collections: ['projects', 'tasks'], last_pulled_at: lastPulledAt, schema_version: schemaVersion, migration,
      }),
    pushChanges: ({ changes, lastPulledAt }) =>
      rpc('push_changes', { changes, last_pulled_at: lastPulledAt }),
  })
}
