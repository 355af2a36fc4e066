// Databases of our own on the cluster of DATABASE_URL, and what a user sees there in plain SQL.

import { readFile } from 'node:fs/promises'
import pg from 'pg'
import { serve, token } from '../rpc.mjs'
import { databaseUrl } from './environment.mjs'

const sqlFile = (name) => readFile(new URL(`../${name}`, import.meta.url), 'utf8')

// connectionParameters are what pg reads out of a URI, sockets and passwords included.
function connect(database) {
  const { host, port, user, password, database: own } = new pg.Client(databaseUrl()).connectionParameters
  const client = new pg.Client({ host, port, user, password, database: database ?? own })
  client.on('error', () => {}) // the server stops before us
  return client.connect().then(() => client)
}

function uriOf(database) {
  const { host, port } = new pg.Client(databaseUrl()).connectionParameters
  return `postgresql:///${database}?host=${encodeURIComponent(host)}&port=${port}`
}

// The app in a fresh database, served over HTTP (`http` is for rpc.mjs). `sql` reads and writes as superuser, as psql would.
export async function openServer(name, files = ['supabase.sql', 'app.sql'], http = {}) {
  const admin = await connect()
  const close = async (...clients) => {
    for (const client of clients) await client?.end()
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    await admin.end()
  }
  let db
  try {
    // Roles belong to all databases: one at a time.
    await admin.query(`SELECT pg_advisory_lock(hashtext('snapsync clients'))`)
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE template0 ENCODING 'UTF8'`)
    db = await connect(name)
    for (const file of files) await db.query(await sqlFile(file))
    await admin.query('SELECT pg_advisory_unlock_all()')
  } catch (error) {
    await close(db) // an open connection would keep the process alive
    throw error
  }

  const rpc = await serve({ databaseUrl: uriOf(name), ...http })
  const sql = async (text, values) => (await db.query(text, values)).rows

  return {
    url: rpc.url,
    connection: { host: db.host, port: db.port, database: name },
    sql,
    // A session of its own, to be ended by who asks for it.
    session: () => connect(name),
    token: (user) => token({ role: 'authenticated', sub: user }),

    // Rows of `query` as this user gets them under row-level security.
    async as(user, query) {
      await db.query('BEGIN READ ONLY')
      try {
        await db.query(`SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)`,
          [JSON.stringify({ role: 'authenticated', sub: user })])
        return (await db.query(query)).rows
      } finally {
        await db.query('ROLLBACK')
      }
    },

    async close() {
      await rpc.close()
      await close(db)
    },
  }
}
