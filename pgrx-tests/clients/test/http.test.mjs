// No client library at all: what curl would see, to the byte where bytes matter.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { newUser, testServer } from '../lib/testing.mjs'

const server = testServer('http', `
  CREATE TABLE amounts (id bigint PRIMARY KEY, amount numeric, exact bigint, ratio float8);
  CREATE TABLE readings (sensor text, nr int, at timestamptz, value int, PRIMARY KEY (sensor, nr));
  ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
  CREATE POLICY all_of_them ON readings USING (true);
  GRANT SELECT, INSERT, UPDATE, DELETE ON amounts, readings TO authenticated;
  SELECT snapsync.enable('amounts');
  SELECT snapsync.enable('readings');
`)

const changed = ({ created, updated, deleted }) => [created.length, updated.length, deleted.length]

describe('plain HTTP', () => {
  it('takes a cursor as number or string, and null, "" and 0 as a first sync', async () => {
    const user = newUser()
    await server.seed(user)
    const first = await server.pull(user)
    assert.deepEqual(changed(first.changes.tasks), [2, 0, 0])
    for (const start of ['', 0, '0']) assert.deepEqual(await server.pull(user, start), first)
    for (const cursor of [first.timestamp, `${first.timestamp}`]) {
      assert.deepEqual(changed((await server.pull(user, cursor)).changes.tasks), [0, 0, 0])
    }
  })

  it('answers the same question the same way, however often', async () => {
    const user = newUser()
    await server.seed(user)
    const { timestamp } = await server.pull(user)
    const project = await server.seed(user, 'Kitchen', ['Paint'])
    const once = await server.pull(user, timestamp)
    assert.deepEqual(once.changes.projects.created.map((p) => p.id), [project])
    assert.deepEqual(await server.pull(user, timestamp), once)
    assert.deepEqual(changed((await server.pull(user, once.timestamp)).changes.tasks), [0, 0, 0])
  })

  it('takes a time for a cursor', async () => {
    const user = newUser()
    await server.seed(user)
    // Its slack reaches back over all that there is: everything comes again.
    const { changes: { tasks } } = await server.pull(user, new Date().toISOString())
    assert.equal(tasks.created.length + tasks.updated.length, 2)
  })

  it('resets a cursor that is ahead of the clock', async () => {
    const user = newUser()
    await server.seed(user)
    const answer = await server.pull(user, '4503599627370496')
    assert.equal(answer.experimentalStrategy?.override?.tasks ?? answer.experimentalStrategy?.default, 'replacement')
    assert.equal(changed(answer.changes.tasks).reduce((a, b) => a + b), 2)
    assert(answer.timestamp < 4503599627370496)
  })

  it('pulls in read-only transactions, by POST and by GET', async () => {
    const user = newUser()
    await server.seed(user)
    const { text: posted } = await server.rpc(user, 'pull_changes', { collections: ['tasks'], last_pulled_at: null })
    const { text: got } = await server.rpc(user, 'pull_changes', null, { method: 'GET', query: '?collections={tasks}' })
    assert.equal(got, posted)
    const { status } = await server.rpc(user, 'push_changes', null, { method: 'GET', query: '?changes={}' })
    assert.equal(status, 405)
  })

  it('keeps every digit, out and in', async () => {
    const user = newUser()
    const row = '{"id":9223372036854775807,"amount":12345678901234567890.12345,"exact":9007199254740993,"ratio":0.1}'
    const push = await server.rpc(user, 'push_changes', `{"changes": {"amounts": {"created": [${row}]}}}`)
    assert.equal(push.status, 200, push.text)
    await server.rpc(user, 'push_changes', '{"changes": {"amounts": {"created": [{"id": "7", "amount": 1.10, "ratio": 1e-300}]}}}')
    const { text } = await server.rpc(user, 'pull_changes', { collections: ['amounts'] })
    assert(text.includes(row), text)
    assert(text.includes('"amount":1.10'), text)
  })

  it('speaks of composite keys by one id', async () => {
    const user = newUser()
    await server.sql(`INSERT INTO readings VALUES ('a/b c.d', -1, NULL, 1), ('plain', 2, '2026-01-02Z', 2)`)
    const { changes: { readings }, timestamp } = await server.pull(user, null, { collections: ['readings'], dialect: 'watermelondb' })
    assert.deepEqual(readings.created.sort((a, b) => a.value - b.value), [
      { id: 'a%2Fb%20c%2Ed.-1', sensor: 'a/b c.d', nr: -1, at: null, value: 1 },
      { id: 'plain.2', sensor: 'plain', nr: 2, at: Date.UTC(2026, 0, 2), value: 2 },
    ])
    const push = await server.rpc(user, 'push_changes', {
      changes: { readings: {
        created: [{ id: 'new.3', sensor: 'new', nr: 3, at: Date.UTC(2026, 0, 3), value: 3, _status: 'created', _changed: '' }],
        updated: [{ id: 'plain.2', value: 22, _status: 'updated', _changed: 'value' }],
        deleted: ['a%2Fb%20c%2Ed.-1'],
      } },
      last_pulled_at: timestamp, dialect: 'watermelondb',
    })
    assert.equal(push.status, 200, push.text)
    assert.deepEqual(await server.sql('SELECT sensor, value, at FROM readings ORDER BY value'), [
      { sensor: 'new', value: 3, at: new Date(Date.UTC(2026, 0, 3)) },
      { sensor: 'plain', value: 22, at: new Date(Date.UTC(2026, 0, 2)) },
    ])
    const { changes } = await server.pull(user, timestamp, { collections: ['readings'], dialect: 'watermelondb' })
    assert.deepEqual(changes.readings.deleted, ['a%2Fb%20c%2Ed.-1'])
    assert.deepEqual([...changes.readings.created, ...changes.readings.updated].map((r) => r.id).sort(), ['new.3', 'plain.2'])
  })

  it('never names rows of another tenant', async () => {
    const [alice, bob] = [newUser(), newUser()]
    await server.seed(bob)
    const { timestamp } = await server.pull(bob)
    await server.seed(alice)
    await server.sql('UPDATE tasks SET done = true WHERE owner_id = $1', [alice])
    await server.sql('DELETE FROM projects WHERE owner_id = $1', [alice])
    const { changes } = await server.pull(bob, timestamp)
    assert.deepEqual([changed(changes.projects), changed(changes.tasks)], [[0, 0, 0], [0, 0, 0]])
  })

  it('sends a row that was gained as created, whatever happened to it before', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const project = await server.seed(alice, 'Garden', [])
    const { timestamp } = await server.pull(bob)
    await server.sql(`UPDATE projects SET name = 'Yard' WHERE id = $1`, [project])
    await server.sql('UPDATE projects SET owner_id = $2 WHERE id = $1', [project, bob])
    const { changes: { projects } } = await server.pull(bob, timestamp)
    assert.deepEqual([projects.created.map((p) => p.name), projects.updated], [['Yard'], []])
  })

  it('knows its own rows by client_id, and nobody is not somebody', async () => {
    const user = newUser()
    const { timestamp } = await server.pull(user)
    await server.rpc(user, 'push_changes', { changes: { projects: { created: [{ id: newUser(), name: 'Shed' }] } }, client_id: 'phone' })
    await server.seed(user, 'Garden', [])
    const names = async (more) => (await server.pull(user, timestamp, more)).changes.projects.created.map((p) => p.name).sort()
    assert.deepEqual(await names({ client_id: 'phone' }), ['Garden'])
    assert.deepEqual(await names({ client_id: 'laptop' }), ['Garden', 'Shed'])
    assert.deepEqual(await names({}), ['Garden', 'Shed'])
  })

  it('applies a push whole or not at all', async () => {
    const user = newUser()
    const project = await server.seed(user)
    const { status, json } = await server.rpc(user, 'push_changes', {
      changes: { tasks: { created: [
        { id: randomUUID(), project_id: project, title: 'Good' },
        { id: randomUUID(), project_id: randomUUID(), title: 'No such project' },
      ] } },
    })
    assert.deepEqual([status, json.code], [409, '23503'])
    assert.deepEqual(await server.sql(`SELECT FROM tasks WHERE owner_id = $1 AND title = 'Good'`, [user]), [])
  })

  it('lets one of two concurrent pushes win', async () => {
    const user = newUser()
    await server.seed(user, 'Garden', ['Dig'])
    const { timestamp, changes } = await server.pull(user)
    const [{ id }] = changes.tasks.created
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => server.rpc(user, 'push_changes', {
      changes: { tasks: { updated: [{ id, views: i + 1 }] } }, last_pulled_at: timestamp, client_id: `device ${i}`,
    })))
    assert.deepEqual(answers.map((a) => a.status).sort(), [200, 409, 409, 409, 409, 409])
    const [{ views }] = await server.sql('SELECT views::int FROM tasks WHERE id = $1', [id])
    assert.equal(answers[views - 1].status, 200)
  })

  it('misses nothing while others write', async () => {
    const user = newUser()
    const project = await server.seed(user, 'Busy', [])
    const replica = new Map()
    let cursor = null
    const pullOnce = async () => {
      const { changes: { tasks }, timestamp } = await server.pull(user, cursor)
      for (const row of [...tasks.created, ...tasks.updated]) replica.set(row.id, row)
      for (const id of tasks.deleted) replica.delete(id)
      cursor = timestamp
    }
    const writer = async (n) => {
      const own = []
      for (let i = 0; i < 40; i++) {
        if (i % 4 === 3) {
          await server.rpc(user, 'push_changes', { changes: { tasks: { deleted: [own.shift()] } } })
        } else {
          const id = randomUUID()
          own.push(id)
          await server.rpc(user, 'push_changes', { changes: { tasks: { created: [{ id, project_id: project, title: `${n} ${i}` }] } } })
        }
      }
    }
    let busy = true
    const puller = (async () => { while (busy) await pullOnce() })()
    await Promise.all([1, 2, 3].map(writer))
    busy = false
    await puller
    await pullOnce()
    const rows = await server.as(user, 'SELECT id, title FROM tasks ORDER BY id')
    assert.equal(rows.length, 60)
    assert.deepEqual([...replica.values()].map(({ id, title }) => ({ id, title })).sort((a, b) => (a.id < b.id ? -1 : 1)), rows)
  })

  it('stays alive after bad input', async () => {
    const user = newUser()
    const deep = '['.repeat(1000) + ']'.repeat(1000)
    const nul = JSON.stringify({ changes: { projects: { created: [{ id: randomUUID(), name: 'a\u0000b' }] } } })
    for (const body of [
      nul,
      `{"changes": {"projects": {"created": [{"id": "${randomUUID()}", "name": "\\ud800"}]}}}`,
      `{"changes": ${deep}}`,
      `{"changes": {"tasks": {"created": [{"id": "${randomUUID()}", "views": ${'9'.repeat(400)}}]}}}`,
      '{"changes": {"tasks": null}}',
      '{"changes": {"__proto__": {"created": []}}}',
    ]) {
      const { status, json } = await server.rpc(user, 'push_changes', body)
      assert(status >= 400 && status < 500, `${body.slice(0, 80)} -> ${status} ${JSON.stringify(json)}`)
      assert(json.code && json.message, JSON.stringify(json))
    }
    assert.equal((await server.rpc(user, 'pull_changes', { collections: ['tasks'] })).status, 200)
  })
})
