// The pages of a pull as the one answer that WatermelonDB takes. `rpc` is that of the README.
export async function pullPagesAsOne(rpc, args) {
  const rows = {}, override = {}
  let page = {}
  do {
    page = await rpc('pull_changes', { ...args, page_size: 1000, next: page.next })
    for (const [name, { created, updated, deleted }] of Object.entries(page.changes)) {
      if (page.experimentalStrategy?.override[name]) [rows[name], override[name]] = [new Map(), 'replacement']
      const last = (rows[name] ??= new Map())
      for (const row of created) last.set(row.id, ['created', row])
      for (const row of updated) last.set(row.id, [last.get(row.id)?.[0] === 'created' ? 'created' : 'updated', row])
      for (const id of deleted) last.set(id, ['deleted', id])
    }
  } while (page.next)
  const array = (last, kind) => [...last.values()].filter(([of]) => of === kind).map(([, item]) => item)
  const changes = Object.fromEntries(Object.entries(rows).map(([name, last]) =>
    [name, Object.fromEntries(['created', 'updated', 'deleted'].map((kind) => [kind, array(last, kind)]))]))
  return { changes, timestamp: page.timestamp, experimentalStrategy: { default: 'incremental', override } }
}
