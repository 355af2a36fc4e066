// `replica` is that of the README, with `next: null` besides; `save` stores all of it at once.
export async function pullInPages(supabase, replica, save) {
  do {
    const { data } = await supabase
      .rpc('pull_changes', {
        collections: ['projects', 'tasks'], last_pulled_at: replica.cursor, client_id: replica.clientId,
        page_size: 1000, next: replica.next,
      })
      .throwOnError()
    for (const [name, { created, updated, deleted }] of Object.entries(data.changes)) {
      if (data.experimentalStrategy?.override[name] === 'replacement') replica[name].clear()
      for (const row of [...created, ...updated]) replica[name].set(String(row.id), row)
      for (const id of deleted) replica[name].delete(id)
    }
    replica.next = data.next ?? null
    if (!data.next) replica.cursor = data.timestamp
    await save(replica)
  } while (replica.next)
}
