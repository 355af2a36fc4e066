// `view` is { cursor: null, filter: null, rows: new Map() }; `save` stores all of it at once.
export async function pullView(supabase, name, view, filter, save) {
  const { data } = await supabase
    .rpc('pull_changes', { collections: [name], last_pulled_at: view.cursor, filter, last_filter: view.filter })
    .throwOnError()
  const { created, updated, deleted } = data.changes[name]
  if (data.experimentalStrategy?.override[name] === 'replacement') view.rows.clear()
  for (const row of [...created, ...updated]) view.rows.set(String(row.id), row)
  for (const id of deleted) view.rows.delete(id)
  await save(Object.assign(view, { cursor: data.timestamp, filter: filter ?? {} }))
}
