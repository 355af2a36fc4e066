// From the channel `snapsync` to many clients: listens once, and tells each by server-sent events when there may be something to pull.
//
//   GET /pokes?collections=lists,todos    with the JWT that the RPCs take, as Authorization: Bearer ...
//
//   data: {"collection": "todos", "actions": ["insert"], "stamp": 8}     something changed in a scope of this user's
//   data: {}                                                             anything may have changed: with this a stream begins
//
// `scopes` says for each collection which scopes a user may hear: a query that runs as the user, or null where all users may hear all.
// The login in `connection` (what pg takes) is a member of the roles that users have, and may execute snapsync.poke_scope. It needs no
// right on any table.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { claimsOf, HttpError, SECRET } from './rpc.mjs'

const ACTIONS = ['insert', 'update', 'delete', 'access']
const [EVERYTHING, SIGN_OF_LIFE] = ['data: {}\n\n', ': \n\n']
const SIGN_OF_LIFE_MS = 20_000 // proxies cut what is silent for long
const PAUSES_MS = [50, 5_000] // before the database is tried again
const SLOW_BYTES = 64 * 1024 // who has so much unread is cut off: he comes back and pulls
const LONGEST_MS = 2 ** 31 - 1 // of a timer
const ASKING = 4 // so many users are asked for at once
const ASKED_AGAIN_MS = 1_000 // where what a user may hear has moved while it was asked for

function parse(json) {
  try { return JSON.parse(json) } catch { return null }
}

export function openGateway({ connection, scopes, secret = SECRET }) {
  const queries = new Map(Object.entries(scopes))
  const clients = new Set()
  const hearers = new Map() // a collection, or the hash of a scope -> the clients that hear its pokes
  const stop = new AbortController()
  const login = { ...connection, keepAlive: true, connectionTimeoutMillis: 10_000 }
  const pool = new pg.Pool({ ...login, max: ASKING, query_timeout: 15_000 })
  pool.on('error', () => {}) // an idle connection went away: whoever asks next says so
  let session = null // the one that listens, while it does
  let isReady
  const ready = new Promise((resolve) => { isReady = resolve })

  async function listen() {
    let pause = PAUSES_MS[0]
    while (!stop.signal.aborted) {
      const db = new pg.Client(login)
      const ended = new Promise((resolve) => db.once('end', resolve))
      db.on('error', () => {}) // the end follows
      db.on('notification', ({ payload }) => poke(payload))
      try {
        await db.connect()
        await db.query('LISTEN snapsync')
        if (stop.signal.aborted) return await db.end()
        session = db
        pause = PAUSES_MS[0]
        isReady()
        for (const client of clients) renew(client) // nobody knows what was missed
        await ended
      } catch (error) {
        console.error(`gateway: ${error.message}`)
      }
      session = null
      db.end().catch(() => {})
      await sleep(pause, null, { signal: stop.signal }).catch(() => {})
      pause = Math.min(2 * pause, PAUSES_MS[1])
    }
  }

  // Anybody who can connect can notify: what is not a poke is passed over, and only what a poke consists of is passed on.
  function poke(payload) {
    const given = parse(payload)
    if (!queries.has(given?.collection) || !Array.isArray(given.actions) || !Number.isSafeInteger(given.stamp)) return
    const { collection, scope, stamp } = given
    if (scope !== undefined && typeof scope !== 'string') return
    const actions = ACTIONS.filter((action) => given.actions.includes(action))
    if (actions.includes('access')) {
      for (const client of clients) if (client.collections.includes(collection)) renew(client)
      return
    }
    const message = `data: ${JSON.stringify({ collection, actions, stamp })}\n\n`
    const name = !scope || queries.get(collection) === null ? collection : `scope ${scope}`
    for (const client of hearers.get(name) ?? []) send(client, message)
  }

  function send({ response }, message) {
    if (!response.headersSent) {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    }
    response.write(message)
    if (response.writableLength > SLOW_BYTES) response.destroy()
  }

  function forget(client) {
    for (const name of client.names.splice(0)) {
      const all = hearers.get(name)
      all.delete(client)
      if (all.size === 0) hearers.delete(name)
    }
  }

  // Who sees what may have moved. Until it is known what the client may hear now, it hears nothing; then it is told that anything may have
  // changed. So it misses nothing, and hears nothing that it may not. Where more has moved meanwhile, it is told all the same, and asked for again
  // after a pause: whoever can notify could keep everybody from hearing anything.
  async function renew(client) {
    forget(client)
    client.outdated = true
    if (client.asking) return
    client.asking = true
    try {
      while (client.outdated) {
        client.outdated = false
        const names = await ask(client)
        if (!clients.has(client)) return // gone meanwhile
        send(client, EVERYTHING)
        if (client.outdated) {
          await sleep(ASKED_AGAIN_MS, null, { signal: stop.signal }).catch(() => {})
          continue
        }
        client.names = names
        for (const name of names) hearers.set(name, (hearers.get(name) ?? new Set()).add(client))
      }
    } catch (error) {
      client.fail(error)
    } finally {
      client.asking = false
    }
  }

  // The names, in `hearers`, of all that this user may hear, as the user sees it now.
  async function ask({ claims, collections }) {
    const db = await pool.connect()
    let broken
    try {
      const [named, values] = [[], []] // collections, and scopes in them
      await db.query('BEGIN READ ONLY')
      await db.query(
        `SELECT set_config('search_path', 'public', true), set_config('role', $1, true), set_config('request.jwt.claims', $2, true)`,
        [claims.role, JSON.stringify(claims)])
      for (const collection of collections.filter((name) => queries.get(name) !== null)) {
        const { rows } = await db.query(`SELECT DISTINCT value::text FROM (${queries.get(collection)}) AS _ (value)`)
        named.push(...rows.map(() => collection))
        values.push(...rows.map(({ value }) => value))
      }
      await db.query('COMMIT') // the login's own role again
      const { rows } = await db.query(
        `SELECT 'scope ' || snapsync.poke_scope(collection, value) AS name FROM unnest($1::text[], $2::text[]) AS _ (collection, value)
          WHERE value IS NOT NULL`, [named, values])
      return [...collections, ...rows.map(({ name }) => name)]
    } catch (error) {
      broken = await db.query('ROLLBACK').then(() => undefined, (e) => e)
      throw error
    } finally {
      db.release(broken)
    }
  }

  // For `other` of rpc.mjs: takes the request if it is one for pokes.
  async function take(request, response, url) {
    if (url.pathname !== '/pokes') return false
    const claims = claimsOf(request.headers.authorization, secret)
    const collections = [...new Set((url.searchParams.get('collections') ?? '').split(','))]
    const unknown = collections.find((name) => !queries.has(name))
    if (unknown !== undefined) throw new HttpError(400, 'PGRST100', `no pokes of collection "${unknown}"`)
    if (!session) throw new HttpError(503, 'PGRST000', 'the gateway does not hear the database')
    await new Promise((resolve, reject) => {
      const fail = (error) => { if (response.headersSent) response.end(); else reject(error) }
      const client = { claims, collections, response, names: [], asking: false, outdated: false, fail }
      clients.add(client)
      // A token that ends ends what it has opened.
      const left = claims.exp ? claims.exp * 1000 - Date.now() : LONGEST_MS
      const end = setTimeout(() => response.end(), Math.min(left, LONGEST_MS))
      response.once('close', () => {
        clearTimeout(end)
        clients.delete(client)
        forget(client)
        resolve()
      })
      renew(client)
    })
    return true
  }

  function beat() {
    for (const client of clients) if (client.response.headersSent) send(client, SIGN_OF_LIFE)
    // A connection can be dead without an end.
    const stream = session?.connection.stream
    const dead = setTimeout(() => stream?.destroy(), SIGN_OF_LIFE_MS / 2)
    Promise.resolve(session?.query('SELECT')).catch(() => {}).finally(() => clearTimeout(dead))
  }

  const [listening, heart] = [listen(), setInterval(beat, SIGN_OF_LIFE_MS)]
  async function close() {
    stop.abort()
    clearInterval(heart)
    for (const { response } of clients) response.destroy()
    await session?.end().catch(() => {})
    await listening
    await pool.end()
  }

  return { ready, take, close }
}
