// What a device holds, and what it should hold: the user's own SELECT, column by column.

import assert from 'node:assert/strict'

const byId = (a, b) => (a.id < b.id ? -1 : 1)

const ms = (column) => `(extract(epoch FROM ${column}) * 1000)::float8 AS ${column}`
const WATERMELONDB = {
  projects: `SELECT id, name, ${ms('created_at')} FROM projects`,
  tasks: `SELECT id, project_id, title, done, ${ms('due_at')}, labels::text AS labels, views::float8 AS views FROM tasks`,
}
const POSTGREST = {
  projects: 'SELECT id, name, created_at FROM projects',
  tasks: 'SELECT id, project_id, title, done, due_at, labels, views FROM tasks',
}

// Read from the adapter, past WatermelonDB's cache. Rows that wait for a push keep their _status, so they differ.
export async function deviceRows(database, table) {
  const raws = await database.get(table).query().unsafeFetchRaw()
  return raws.map((raw) => {
    const row = Object.fromEntries(database.schema.tables[table].columnArray.map(({ name, type }) =>
      [name, type === 'boolean' ? Boolean(raw[name]) : raw[name]])) // SQLite has 0 and 1
    return { id: raw.id, ...row, ...(raw._status !== 'synced' && { _status: raw._status }) }
  }).sort(byId)
}

export async function serverRows(server, user, table, queries = WATERMELONDB) {
  return (await server.as(user, queries[table])).map((row) => ({ ...row })).sort(byId)
}

export async function assertConverged(server, user, database, who = 'device') {
  for (const table of Object.keys(WATERMELONDB)) {
    assert.deepEqual(await deviceRows(database, table), await serverRows(server, user, table), `${who}: ${table}`)
  }
}

export async function assertReplica(server, user, replica, who = 'replica') {
  for (const [table, query] of Object.entries(POSTGREST)) {
    const wanted = (await server.as(user, `SELECT row_to_json(t) AS row FROM (${query}) AS t`)).map(({ row }) => row)
    assert.deepEqual([...replica[table].values()].sort(byId), wanted.sort(byId), `${who}: ${table}`)
  }
}
