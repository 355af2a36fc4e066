// Before the first pull, `replica` is
// { clientId: crypto.randomUUID(), cursor: null, projects: new Map(), tasks: new Map() }.
export async function pull(supabase, replica) {
  const { data } = await supabase
    .rpc('pull_changes', {
      collections: ['projects', 'tasks'], last_pulled_at: replica.cursor, client_id: replica.clientId,
    })
    .throwOnError()
  for (const [name, { created, updated, deleted }] of Object.entries(data.changes)) {
    if (data.experimentalStrategy?.override[name] === 'replacement') replica[name].clear()
    for (const row of [...created, ...updated]) replica[name].set(String(row.id), row)
    for (const id of deleted) replica[name].delete(id) // ids in `deleted` are always text
  }
  replica.cursor = data.timestamp
}

export async function push(supabase, replica, changes) {
  await supabase
    .rpc('push_changes', { changes, last_pulled_at: replica.cursor, client_id: replica.clientId })
    .throwOnError()
}
