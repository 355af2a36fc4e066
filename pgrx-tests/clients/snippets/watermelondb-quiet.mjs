import { synchronize } from '@nozbe/watermelondb/sync/index.js'

export async function quietSync(database, supabase, clientId) {
  const rpc = async (name, args) =>
    (await supabase.rpc(name, { ...args, dialect: 'watermelondb', client_id: clientId }).throwOnError()).data
  const local = database.localStorage

  await synchronize({
    database,
    pullChanges: async ({ lastPulledAt }) =>
      rpc('pull_changes', {
        collections: ['projects', 'tasks'], last_pulled_at: lastPulledAt, skip_echoes: !(await local.get('open_push')),
      }),
    pushChanges: async ({ changes, lastPulledAt }) => {
      await local.set('open_push', true) // until this device knows what came of it
      return rpc('push_changes', { changes, last_pulled_at: lastPulledAt })
    },
  })
  await local.set('open_push', false)
}
