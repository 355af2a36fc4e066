// What the tests share. Each test file has a database of its own; each test has users of its own, who see nothing else.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { complaints, setGenerator } from './app.mjs'
import { Device } from './device.mjs'
import { databaseUrl } from './environment.mjs'
import { openServer } from './postgres.mjs'

databaseUrl() // says so when it is missing
setGenerator(randomUUID)

// To be called once, at the top of a test file. `sql` adds to the app.
export function testServer(name, sql) {
  const server = {}
  let directory
  let devices = 0

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), `snapsync-${name}-`))
    Object.assign(server, await openServer(`snapsync_clients_${name}_${process.pid}`))
    if (sql) await server.sql(sql)
  })
  after(async () => {
    await server.close?.()
    await rm(directory, { recursive: true, force: true })
  })

  server.device = (user, adapter = 'sqlite', itsName = `device ${++devices}`) =>
    new Device(server, user, itsName, adapter, join(directory, `${++devices}.db`))
  server.file = () => join(directory, `${++devices}.db`)

  // One request without any client library: { status, json, text }.
  server.rpc = async (user, fn, args, { method = 'POST', query = '' } = {}) => {
    const response = await fetch(`${server.url}/rest/v1/rpc/${fn}${query}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(user && { authorization: `Bearer ${server.token(user)}` }),
      },
      ...(method === 'POST' && { body: typeof args === 'string' ? args : JSON.stringify(args) }),
    })
    const text = await response.text()
    return { status: response.status, text, json: JSON.parse(text || 'null') }
  }
  server.pull = async (user, last_pulled_at = null, more = {}) => {
    const { status, json, text } = await server.rpc(user, 'pull_changes', { collections: ['projects', 'tasks'], last_pulled_at, ...more })
    assert.equal(status, 200, text)
    return json
  }

  // A project with tasks, put there by the server's own hands.
  server.seed = async (user, name = 'Garden', titles = ['Dig', 'Sow']) => {
    const [{ id }] = await server.sql('INSERT INTO projects (owner_id, name) VALUES ($1, $2) RETURNING id', [user, name])
    await server.sql('INSERT INTO tasks (owner_id, project_id, title) SELECT $1, $2, unnest($3::text[])', [user, id, titles])
    return id
  }

  return server
}

export const newUser = () => randomUUID()

// The complaints that WatermelonDB had while `work` ran.
export async function complaintsDuring(work) {
  const from = complaints.length
  await work()
  return complaints.slice(from)
}

export const lastCall = (device, name) => device.network.calls.filter((c) => c.name === name).at(-1)
export const pulled = (device) => JSON.parse(lastCall(device, 'pull_changes').body)
