// The gateway: who is told of what, and what happens when a line is cut.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, describe, it } from 'node:test'
import pg from 'pg'
import { token } from '../rpc.mjs'
import { openGateway } from '../gateway.mjs'
import { openLive, seed } from '../live.mjs'
import { listen } from '../live/pokes.js'
import { newUser } from '../lib/testing.mjs'

const EVERYTHING = {}

let live
let witness
const stop = new AbortController()
before(async () => {
  live = await openLive(`snapsync_clients_gateway_${process.pid}`)
  witness = ear(newUser(), 'members')
  await witness.next()
})
after(async () => {
  stop.abort()
  await live?.close()
})

// A client's ear: `next()` waits for what it hears.
function ear(user, collections = 'todos') {
  const [heard, waiting] = [[], []]
  listen({
    url: `${live.url}/pokes?collections=${collections}`, token: live.token(user), signal: stop.signal,
    heard: (poke) => { if (waiting.length) waiting.shift()(poke); else heard.push(poke) },
  })
  return { next: async () => heard.length ? heard.shift() : new Promise((resolve) => waiting.push(resolve)) }
}

// Ears that hear from here on: the gateway has heard of all that was done before, and of the users.
let fences = 0
async function ears(...users) {
  const fence = { collection: 'members', actions: ['update'], stamp: ++fences }
  await live.sql(`SELECT pg_notify('snapsync', $1)`, [JSON.stringify(fence)])
  while ((await witness.next()).stamp !== fences);
  const all = users.map((user) => ear(user))
  for (const one of all) assert.deepEqual(await one.next(), EVERYTHING, 'a stream begins with it')
  return all
}

const insert = (list, title = 'a todo') => live.sql('INSERT INTO todos (list_id, title) VALUES ($1, $2)', [list, title])
const update = (list) => live.sql('UPDATE todos SET done = NOT done WHERE list_id = $1', [list])
const remove = (list) => live.sql('DELETE FROM todos WHERE list_id = $1', [list])

describe('the gateway', () => {
  it('tells whoever sees a scope that something changed there, and nobody else', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const [hers, his] = [await seed(live, alice, 'Hers'), await seed(live, bob, 'His')]
    const [phone, laptop, ofBob] = await ears(alice, alice, bob)

    // Pokes come in the order of commits: had Bob heard of her first one, it would be his first.
    await insert(hers)
    await update(hers)
    await insert(his)
    await remove(hers)
    const told = ({ stamp, ...poke }) => { assert(Number.isSafeInteger(stamp)); return poke }
    for (const one of [phone, laptop]) {
      for (const action of ['insert', 'update', 'delete']) {
        assert.deepEqual(told(await one.next()), { collection: 'todos', actions: [action] })
      }
    }
    assert.deepEqual(told(await ofBob.next()), { collection: 'todos', actions: ['insert'] })
  })

  it('asks anew what a user may hear when memberships change', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const [hers, his] = [await seed(live, alice, 'Hers'), await seed(live, bob, 'His')]
    const [ofAlice, ofBob] = await ears(alice, bob)
    const both = [ofAlice, ofBob]
    await live.sql('INSERT INTO members (list_id, user_id, owner_id) VALUES ($1, $2, $3)', [hers, bob, alice])
    for (const one of both) assert.deepEqual(await one.next(), EVERYTHING)
    await insert(hers)
    for (const one of both) assert.deepEqual((await one.next()).actions, ['insert'])

    await live.sql('DELETE FROM members WHERE list_id = $1 AND user_id = $2', [hers, bob])
    await remove(hers) // at once: before Bob was asked
    for (const one of both) assert.deepEqual(await one.next(), EVERYTHING)
    await insert(his)
    assert.deepEqual((await ofBob.next()).actions, ['insert'], 'Bob has heard of a list that is not his any more')
  })

  it('comes back when the database has cut the line, and tells everybody to look', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const list = await seed(live, alice, 'Hers')
    const all = await ears(alice, bob)
    const cut = await live.sql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN snapsync'`)
    assert.equal(cut.length, 1)
    await insert(list) // while nobody hears
    for (const one of all) assert.deepEqual(await one.next(), EVERYTHING)
    await update(list)
    assert.deepEqual((await all[0].next()).actions, ['update'])
  })

  it('passes on nothing but pokes', async () => {
    const alice = newUser()
    const list = await seed(live, alice, 'Hers')
    const [hers] = await ears(alice)
    const [{ hash }] = await live.sql(`SELECT snapsync.poke_scope('todos', $1) AS hash`, [list])
    const forged = { collection: 'todos', actions: ['<b>', 'insert'], stamp: 7, scope: hash, more: 'data' }
    const odd = { valueOf: 0, toString: 0 } // what becomes neither a number nor a text
    for (const payload of [
      'nonsense', '', 'null', '[]', '7', '{"collection": "todos"}', '{"collection": "secrets", "actions": ["insert"], "stamp": 1}',
      '{"collection": "__proto__", "actions": ["insert"], "stamp": 1}', '{"collection": "todos", "actions": ["insert"], "stamp": "1"}',
      JSON.stringify({ ...forged, stamp: odd }), JSON.stringify({ ...forged, scope: odd }), JSON.stringify(forged),
    ]) {
      await live.sql(`SELECT pg_notify('snapsync', $1)`, [payload])
    }
    assert.deepEqual(await hers.next(), { collection: 'todos', actions: ['insert'], stamp: 7 })
  })

  it('tells everybody to look, however fast it is told that somebody sees something else', async () => {
    const poke = JSON.stringify({ collection: 'todos', actions: ['access'], stamp: 1 })
    // Each question what a user may hear is followed by such word, which comes before its answer.
    const scopes = { todos: `SELECT NULL::text FROM pg_notify('snapsync', '${poke}')` }
    const gateway = openGateway({ connection: { ...live.connection, user: 'gateway', password: 'gateway' }, scopes })
    const server = createServer((request, response) => gateway.take(request, response, new URL(request.url, 'http://localhost')))
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const ended = new AbortController()
    try {
      await gateway.ready
      await new Promise((resolve) => {
        let heard = 0
        listen({
          url: `http://127.0.0.1:${server.address().port}/pokes?collections=todos`, token: live.token(newUser()), signal: ended.signal,
          heard: () => { if (++heard === 2) resolve() },
        })
      })
    } finally {
      ended.abort()
      await gateway.close()
      server.close()
    }
  })

  it('refuses who has no token for it, and what it does not know', async () => {
    const claims = { role: 'authenticated', sub: newUser() }
    const ask = async (bearer, collections = 'todos') => {
      const answer = await fetch(`${live.url}/pokes?collections=${collections}`, { headers: { authorization: `Bearer ${bearer}` } })
      return [answer.status, (await answer.json()).code]
    }
    assert.deepEqual(await ask(token(claims, 'another secret')), [401, 'PGRST301'])
    assert.deepEqual(await ask(token({ ...claims, role: 'postgres' })), [403, '42501'])
    for (const unknown of ['secrets', '', 'todos,', 'constructor']) {
      assert.deepEqual(await ask(token(claims), unknown), [400, 'PGRST100'], unknown)
    }
  })

  it('ends a stream with its token', async () => {
    const exp = Math.ceil(Date.now() / 1000) + 1
    const bearer = token({ role: 'authenticated', sub: newUser(), exp })
    const answer = await fetch(`${live.url}/pokes?collections=todos`, { headers: { authorization: `Bearer ${bearer}` } })
    assert.equal(answer.headers.get('content-type'), 'text/event-stream')
    assert.equal(await answer.text(), 'data: {}\n\n') // returns when it has ended
    assert(Date.now() >= exp * 1000)
  })

  it('needs to become its users and to know what scopes are called, and no right on a table', async () => {
    const [{ rights }] = await live.sql(
      `SELECT array_agg(DISTINCT table_name::text) AS rights FROM information_schema.table_privileges WHERE grantee = 'gateway'`)
    assert.equal(rights, null)
    const login = new pg.Client({ ...live.connection, user: 'gateway', password: 'gateway' })
    await login.connect()
    try {
      await assert.rejects(login.query('SELECT FROM todos'), { code: '42501' })
    } finally {
      await login.end()
    }
  })
})
