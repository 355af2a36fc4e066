// What `make demo-live` serves: the RPCs, the gateway and a page, for lists that two users share. Runs until it is stopped.

import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { databaseUrl } from './lib/environment.mjs'
import { openServer } from './lib/postgres.mjs'
import { openGateway } from './gateway.mjs'

export const USERS = { alice: '00000000-0000-4000-8000-0000000a11ce', bob: '00000000-0000-4000-8000-000000000b0b' }

// The policies' own words: the lists of which the user is a member. Memberships have no scope.
const LISTS = 'SELECT list_id FROM members WHERE user_id = auth.uid()'
const SCOPES = { lists: LISTS, todos: LISTS, members: null }

const FILES = ['index.html', 'device.html', 'style.css', 'device.js', 'pokes.js', 'replica.js']
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript' }

export async function seed(server, user, name, titles = []) {
  const [{ id }] = await server.sql('INSERT INTO lists (owner_id, name) VALUES ($1, $2) RETURNING id', [user, name])
  await server.sql('INSERT INTO members (list_id, user_id, owner_id) VALUES ($1, $2, $2)', [id, user])
  await server.sql(
    `INSERT INTO todos (list_id, title, created_at)
     SELECT $1, title, now() + nr * interval '1 ms' FROM unnest($2::text[]) WITH ORDINALITY AS _ (title, nr)`, [id, titles])
  return id
}

export async function openLive(name, port = 0) {
  let gateway
  const page = async (request, response, url) => {
    // In place of a sign-in: whoever asks gets a token.
    if (url.pathname === '/sign-in') {
      const user = new Map(Object.entries(USERS)).get(url.searchParams.get('user'))
      if (!user) return false
      response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
      response.end(JSON.stringify({ token: server.token(user), users: USERS }))
      return true
    }
    const file = url.pathname === '/' ? 'index.html' : url.pathname.slice(1)
    if (!FILES.includes(file)) return false
    const body = await readFile(new URL(`live/${file}`, import.meta.url))
    response.writeHead(200, { 'content-type': `${TYPES[extname(file)]}; charset=utf-8`, 'cache-control': 'no-cache' }).end(body)
    return true
  }
  const server = await openServer(name, ['supabase.sql', 'live.sql'], {
    port, other: async (...request) => await page(...request) || gateway.take(...request),
  })
  gateway = openGateway({ connection: { ...server.connection, user: 'gateway', password: 'gateway' }, scopes: SCOPES })
  await gateway.ready
  return {
    ...server,
    async close() {
      await gateway.close()
      await server.close()
    },
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  databaseUrl() // says so when it is missing
  const live = await openLive(`snapsync_live_${process.pid}`, Number(process.env.PORT ?? 0))
  await seed(live, USERS.alice, 'Groceries', ['Milk', 'Bread', 'Strawberries'])
  await seed(live, USERS.alice, 'Garden', ['Water the beans'])
  await seed(live, USERS.bob, 'Boat', ['Varnish the mast'])
  console.log(`Open ${live.url}/ in a browser. Ctrl-C ends it, and everything is gone.`)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => live.close().then(() => process.exit(0)))
}
