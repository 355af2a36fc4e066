// The Drift/Supabase demo client, as it is: its two calls, what went wrong with hand-written functions, and devices that do anything in any
// order. A failure of these names its seed; SEED=n runs that one alone.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { DriftDevice, TABLES } from '../lib/drift.mjs'
import { openServer } from '../lib/postgres.mjs'
import { newUser } from '../lib/testing.mjs'

const HOUR = 3600e6
const SEEDS = process.env.SEED ? [Number(process.env.SEED)] : [1, 2, 3, 4, 5, 6]
const STEPS = Number(process.env.STEPS ?? 150)

const server = {}
before(async () => {
  Object.assign(server, await openServer(`snapsync_clients_drift_${process.pid}`, ['supabase.sql', 'drift.sql']))
  // Times before the first change say nothing.
  await device(newUser()).synchronize()
  await server.sql(`INSERT INTO project VALUES ('${newUser()}', '${newUser()}', 'the first', null, now(), now())`)
  await age(1000 * HOUR, [])
})
after(() => server.close?.())

// The test's time goes on with each look, as every device's own would.
let ticks = 0
const now = () => Date.now() * 1000 + (ticks += 2001)
const device = (user, more = {}) => new DriftDevice(server, user, { now, ...more })

// Lets so much time go by, for the server and these devices: all that they hold is older. The log has nothing of it.
async function age(micros, devices) {
  const by = `interval '${micros} microseconds'`
  const older = ['created_at', 'updated_at', 'deleted_at'].map((name) => `${name} = ${name} - ${by}`).join(', ')
  const [{ last }] = await server.sql('SELECT coalesce(max(stamp), 0) AS last FROM snapsync.change')
  await server.sql(`BEGIN; SET LOCAL session_replication_role = replica;
    ${TABLES.map((table) => `UPDATE ${table} SET ${older};`).join(' ')} COMMIT`)
  await server.sql('DELETE FROM snapsync.change WHERE stamp > $1', [last])
  await server.sql(`UPDATE snapsync.horizon SET at = at - ${by}`)
  for (const one of devices) one.age(micros)
}

// Rows as the user's SELECT gives them, with times in microseconds.
async function select(user, table) {
  const micros = (name) => `(extract(epoch FROM ${name}) * 1000000)::bigint::text AS ${name}`
  const rows = await server.as(user, `SELECT *, ${['created_at', 'updated_at', 'deleted_at'].map(micros).join(', ')} FROM ${table}`)
  const read = (row) => ['created_at', 'updated_at', 'deleted_at'].map((name) => [name, row[name] === null ? null : Number(row[name])])
  return new Map(rows.map((row) => [row.id, { ...row, ...Object.fromEntries(read(row)) }]))
}

// Does the device hold what its user's SELECT gives? `updated_at` comes a millisecond later than it is stored.
async function check(one) {
  for (const table of TABLES) {
    const there = await select(one.user, table)
    assert.deepEqual([...one.tables[table].keys()].sort(), [...there.keys()].sort(), table)
    for (const [id, row] of one.tables[table]) {
      for (const [name, value] of Object.entries(row)) {
        const stored = there.get(id)[name]
        if (name === 'isRemote') continue
        if (value?.micros === undefined) assert.equal(value, stored, `${table}.${name} of ${id}`)
        else if (one.web) assert.ok(Math.abs(Math.floor(stored / 1000) * 1000 - value.micros) <= 1000, `${table}.${name} of ${id}`)
        else assert.ok([0, name === 'updated_at' ? 1000 : 0].includes(value.micros - stored), `${table}.${name} of ${id}: ${value.micros - stored}`)
      }
    }
  }
}

async function settle(...devices) {
  for (let round = 0; round < 3; round++) for (const one of devices) await (one.sync ?? one.synchronize).call(one)
  for (const one of devices) assert.equal(await one.synchronize(), 'pulled', 'there is nothing left to push')
}

const names = (one, table = 'public.task') => one.live(table).map((row) => row.name).sort()

describe('the demo client', () => {
  it('makes its two calls', async () => {
    const one = device(newUser())
    assert.equal(await one.synchronize(), 'pulled')
    one.add('public.project', { name: 'Garden' })
    assert.equal(await one.synchronize(), 'pushed')
    const [pull, push] = one.network.calls.slice(-2)
    assert.deepEqual(Object.keys(pull.args), ['collections', 'last_pulled_at'])
    assert.match(pull.args.last_pulled_at, /Z$/)
    assert.deepEqual(Object.keys(push.args), ['_changes', 'last_pulled_at'])
    assert.match(push.args.last_pulled_at, /\d$/)
    assert.match(JSON.parse(push.body), /^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/)
    await settle(one)
    await check(one)
  })

  it('is not stopped by its own second edit, nor by another device that pushes between pull and push', async () => {
    const user = newUser()
    const [phone, laptop] = [device(user), device(user)]
    const id = phone.add('public.task', { project_id: newUser(), name: 'Dig', note: null })
    for (const name of ['Dig!', 'Dig!!', 'Dig!!!']) {
      await phone.synchronize()
      phone.edit('public.task', id, { name })
    }
    await settle(phone, laptop)
    phone.edit('public.task', id, { name: 'Dig on the phone' })
    laptop.add('public.task', { project_id: newUser(), name: 'Sow', note: null })
    phone.beforePush = async () => { phone.beforePush = null; await laptop.synchronize() }
    assert.equal(await phone.synchronize(), 'pushed')
    await settle(phone, laptop)
    assert.deepEqual([names(phone), names(laptop)], [['Dig on the phone', 'Sow'], ['Dig on the phone', 'Sow']])
    assert.deepEqual(phone.failures, [])
    await check(phone)
    await check(laptop)
  })

  it('sets a value to null', async () => {
    const user = newUser()
    const [phone, laptop] = [device(user), device(user)]
    const id = phone.add('public.task', { project_id: newUser(), name: 'Dig', note: 'deep' })
    await settle(phone, laptop)
    laptop.edit('public.task', id, { note: null })
    await settle(laptop, phone)
    assert.equal(phone.tables['public.task'].get(id).note, null)
    await check(phone)
  })

  it('deletes, though it leaves updated_at as it was; the later of an edit and a deletion stands', async () => {
    const user = newUser()
    const [phone, laptop] = [device(user), device(user)]
    const [gone, kept] = ['gone', 'kept'].map((name) => phone.add('public.task', { project_id: newUser(), name, note: null }))
    await settle(phone, laptop)
    phone.edit('public.task', gone, { name: 'edited before' })
    laptop.remove('public.task', gone)
    laptop.remove('public.task', kept)
    phone.edit('public.task', kept, { name: 'edited after' })
    await settle(laptop, phone)
    await settle(laptop)
    assert.deepEqual([names(phone), names(laptop)], [['edited after'], ['edited after']])
    await check(phone)
    await check(laptop)
  })

  it('hears of rows that the server deletes for good, or gives to somebody else', async () => {
    const user = newUser()
    const phone = device(user)
    const ids = ['dropped', 'moved', 'kept'].map((name) => phone.add('public.task', { project_id: newUser(), name, note: null }))
    await settle(phone)
    await server.sql('DELETE FROM task WHERE id = $1', [ids[0]])
    await server.sql('UPDATE task SET user_id = $2 WHERE id = $1', [ids[1], newUser()])
    await settle(phone)
    assert.deepEqual(names(phone), ['kept'])
    const [{ body }] = phone.network.calls.slice(-1)
    const sent = JSON.parse(body).changes['public.task'].updated.filter((row) => row.id !== ids[2])
    assert.deepEqual(sent.map((row) => [row.name, row.note, row.user_id]), Array(2).fill(['', null, '00000000-0000-0000-0000-000000000000']))
  })

  for (const [clock, what] of [[-3 * HOUR, 'behind'], [3 * HOUR, 'ahead']]) {
    it(`has a clock that is three hours ${what}`, async () => {
      const user = newUser()
      const [phone, laptop] = [device(user, { clock, zone: 330 }), device(user)]
      const both = [phone, laptop]
      const id = phone.add('public.task', { project_id: newUser(), name: 'first', note: null })
      await settle(...both)
      for (let day = 0; day < 3; day++) {
        await age(5 * HOUR, both)
        laptop.add('public.task', { project_id: newUser(), name: `laptop ${day}`, note: null })
        await laptop.synchronize()
        await age(5 * HOUR, both)
        phone.add('public.task', { project_id: newUser(), name: `phone ${day}`, note: null })
        await phone.synchronize()
        phone.edit('public.task', id, { name: `edited ${day}` }) // after a push, and offline
        await age(5 * HOUR, both)
        await phone.synchronize()
      }
      await settle(...both)
      const all = [0, 1, 2].flatMap((day) => [`laptop ${day}`, `phone ${day}`])
      assert.deepEqual(names(phone), ['edited 2', ...all].sort())
      await check(phone)
      await check(laptop)
    })
  }

  it('writes local times without Z, in Adelaide and in St. John\'s', async () => {
    const user = newUser()
    const [adelaide, johns] = [device(user, { zone: 630, local: true }), device(user, { zone: -210, local: true })]
    const id = adelaide.add('public.task', { project_id: newUser(), name: 'first', note: null })
    await settle(adelaide, johns)
    adelaide.edit('public.task', id, { name: 'Adelaide' })
    johns.edit('public.task', id, { name: 'St. John\'s' })
    await settle(johns, adelaide)
    await settle(johns)
    assert.deepEqual([names(adelaide), names(johns)], [['St. John\'s'], ['St. John\'s']])
    await check(adelaide)
    await check(johns)
  })

  it('sends the same batch again when the answer is lost, and nothing else comes of it', async () => {
    const user = newUser()
    const phone = device(user)
    phone.add('public.task', { project_id: newUser(), name: 'Dig', note: null })
    phone.network.loseAnswer = true
    assert.equal(await phone.synchronize(), 'failed')
    await age(30 * HOUR, [phone])
    await settle(phone)
    assert.deepEqual(names(phone), ['Dig'])
    await check(phone)
  })

  it('sleeps between pull and push: what came meanwhile comes with the next pull', async () => {
    const user = newUser()
    const [phone, laptop] = [device(user), device(user)]
    await settle(phone, laptop)
    phone.add('public.task', { project_id: newUser(), name: 'phone', note: null })
    laptop.add('public.task', { project_id: newUser(), name: 'laptop', note: null })
    phone.beforePush = async () => { phone.beforePush = null; await laptop.synchronize(); await age(7 * HOUR, [phone, laptop]) }
    await phone.synchronize()
    await settle(phone)
    assert.deepEqual(names(phone), ['laptop', 'phone'])
  })
})

// mulberry32: the same numbers for the same seed
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

// The latest change of each row, whoever made it: what has to stand in the end.
class Latest {
  rows = new Map()
  note(row) {
    const of = ({ updated_at, deleted_at }) => Math.max(updated_at.micros, deleted_at?.micros ?? -Infinity)
    const known = this.rows.get(row.id)
    if (!known || of(row) > of(known)) this.rows.set(row.id, { ...row })
  }
  age(micros) {
    const older = (t) => t && { ...t, micros: t.micros - micros }
    for (const row of this.rows.values()) {
      for (const name of ['updated_at', 'deleted_at']) row[name] = older(row[name])
    }
  }
}

for (const seed of SEEDS) {
  it(`seed ${seed}, ${STEPS} steps`, async () => {
    const next = random(seed)
    const below = (n) => Math.floor(next() * n)
    const pick = (list) => list[below(list.length)]
    const [alice, bob] = [newUser(), newUser()]
    const clocks = () => Math.round((next() * 13.5 - 10) * HOUR)
    const devices = [
      device(alice, { clock: clocks(), zone: pick([0, 60, -210, 345]) }), device(alice, { clock: clocks() }),
      device(alice, { zone: pick([120, -420, 630]), local: true }), device(bob, { clock: clocks() }), device(bob, { web: true, clock: clocks() }),
    ]
    const latest = new Latest()
    // A deletion that waits to be pushed gives way to whatever is pulled before: the client looks at updated_at, which that leaves as it was.
    for (const one of devices) {
      one.sync = async () => {
        const result = await one.synchronize()
        for (const { deleted } of Object.values(one.begun.changes)) deleted.forEach((row) => latest.note(row))
        return result
      }
    }
    const noted = (one, table, id) => latest.note(one.tables[table].get(id))
    const rowOf = (one, table = 'public.task') => pick(one.live(table))

    const steps = [
      [6, (one, n) => noted(one, 'public.task', one.add('public.task', { project_id: newUser(), name: `task ${n}`, note: pick([null, `note ${n}`]) }))],
      [2, (one, n) => noted(one, 'public.project', one.add('public.project', { name: `project ${n}` }))],
      [1, (one, n) => noted(one, 'public.doc_updates', one.add('public.doc_updates', { task_id: newUser(), data_b64: `AA${n}==` }))],
      [10, (one, n) => {
        const row = rowOf(one)
        if (row) latest.note(one.edit('public.task', row.id, pick([{ name: `edited ${n}` }, { note: null }, { note: `note ${n}` }])))
      }],
      [4, (one) => {
        const [table, row] = pick(TABLES.map((t) => [t, rowOf(one, t)]))
        if (row) one.remove(table, row.id)
      }],
      [2, async ({ user }, n) => { // the server's own hands
        const changed = await server.sql(pick([
          `UPDATE task SET name = 'server ${n}' WHERE id = (SELECT id FROM task WHERE user_id = $1 AND deleted_at IS NULL ORDER BY name, id LIMIT 1) RETURNING id`,
          `UPDATE task SET deleted_at = now() WHERE id = (SELECT id FROM task WHERE user_id = $1 AND deleted_at IS NULL ORDER BY name, id LIMIT 1) RETURNING id`,
        ]), [user])
        for (const { id } of changed) {
          const row = (await select(user, 'task')).get(id)
          latest.note({ ...row, updated_at: { micros: row.updated_at }, deleted_at: row.deleted_at && { micros: row.deleted_at } })
        }
      }],
      [8, (one) => one.sync()],
      [3, async (one) => { // somebody else gets between pull and push
        const other = pick(devices.filter((d) => d !== one))
        one.beforePush = async () => { one.beforePush = null; await other.sync() }
        await one.sync()
        one.beforePush = null
      }],
      [1, async (one) => {
        one.network.loseAnswer = true
        await one.sync()
        one.network.loseAnswer = false
      }],
      [2, async () => {
        const micros = pick([0.2, 5, 30]) * HOUR
        await age(micros, devices)
        latest.age(micros)
      }],
    ].flatMap(([weight, step]) => Array(weight).fill(step))

    for (let n = 0; n < STEPS; n++) await pick(steps)(pick(devices), n)
    await settle(...devices)
    for (const one of devices) await check(one)
    for (const one of devices) assert.deepEqual(one.failures.filter((e) => !/fetch failed/.test(e.message)), [])
    const stored = new Map()
    for (const user of [alice, bob]) for (const table of TABLES) for (const [id, row] of await select(user, table)) stored.set(id, row)
    for (const [id, row] of latest.rows) {
      const there = stored.get(id)
      const told = ({ name, note, data_b64, deleted_at }) => ({ name, note, data_b64, deleted: deleted_at !== null })
      assert.deepEqual(there && told(there), told(row), `the latest change of ${id} stands`)
    }
    assert.equal(stored.size, latest.rows.size)
  })
}
