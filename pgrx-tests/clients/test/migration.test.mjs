// An app gets a new version: its devices migrate by the steps that the server gives, pull with `migration`, and have what a device has that
// is installed anew. (On SQLite: LokiJS has nothing to migrate in Node, where it stays in memory.)

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { synchronize } from '@nozbe/watermelondb/sync/index.js'
import { closeDatabase, openDatabase } from '../lib/app.mjs'
import { connect, Network } from '../lib/client.mjs'
import { deviceRows } from '../lib/contents.mjs'
import { complaintsDuring, newUser, testServer } from '../lib/testing.mjs'
import { appOf } from '../snippets/migrations.mjs'

const { Model } = createRequire(import.meta.url)('@nozbe/watermelondb')

const secured = (name, columns) => `
  CREATE TABLE ${name} (id text PRIMARY KEY DEFAULT gen_random_uuid(), owner_id uuid NOT NULL DEFAULT auth.uid()${columns});
  ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own ON ${name} TO authenticated USING (owner_id = (SELECT auth.uid()));
  GRANT SELECT, INSERT, UPDATE, DELETE ON ${name} TO authenticated;
  SELECT snapsync.enable('${name}', exclude => '{owner_id}');`

const server = testServer('migration', secured('lists', ', title text'))

class Phone {
  network = new Network()

  constructor(user) {
    this.supabase = connect(server, user, this.network)
    this.file = server.file()
  }

  // The app in this version is installed, or updated.
  open(app, collections, enabledAt = undefined) {
    if (this.database) closeDatabase(this.database)
    Object.assign(this, { collections, enabledAt })
    const modelClasses = collections.map((table) => class extends Model { static table = table })
    this.database = openDatabase({ adapter: 'sqlite', file: this.file, modelClasses, ...app })
  }

  async sync() {
    const rpc = async (name, args) => (await this.supabase.rpc(name, { ...args, dialect: 'watermelondb' }).throwOnError()).data
    await synchronize({
      database: this.database,
      migrationsEnabledAtVersion: this.enabledAt,
      pullChanges: ({ lastPulledAt, schemaVersion, migration }) => rpc('pull_changes', {
        collections: this.collections, last_pulled_at: lastPulledAt, schema_version: schemaVersion, migration,
      }),
      pushChanges: ({ changes, lastPulledAt }) => rpc('push_changes', { changes, last_pulled_at: lastPulledAt }),
    })
  }

  get pulls() {
    return this.network.calls.filter((c) => c.name === 'pull_changes')
  }

  contents() {
    return Promise.all(this.collections.map((table) => deviceRows(this.database, table)))
  }
}

describe('a new version of an app', () => {
  it('migrates by the steps that pull_schema gives, and pulls what it lacks', async () => {
    const [user, other] = [newUser(), newUser()]
    const add = (who, id, more = {}) => server.sql(
      `INSERT INTO lists SELECT (jsonb_populate_record(NULL::lists, $1)).*`, [{ id, owner_id: who, title: id, ...more }])
    for (const id of ['a', 'b', 'c']) await add(user, id)
    await add(other, 'x')
    const one = await appOf(connect(server, user), ['lists'])
    const phone = new Phone(user)
    phone.open(one, ['lists'])
    await phone.sync()

    // The server gets its new version, the phone does not: nothing comes again.
    await server.sql(`ALTER TABLE lists ADD COLUMN colour text, ADD COLUMN size int, ADD COLUMN due timestamptz(3)`)
    await phone.sync()
    const empty = { created: [], updated: [], deleted: [] }
    assert.deepEqual(JSON.parse(phone.pulls.at(-1).body).changes, { lists: empty })
    await server.sql(secured('items', ', list_id text NOT NULL REFERENCES lists, done boolean NOT NULL DEFAULT false'))
    await server.sql(`INSERT INTO items (id, owner_id, list_id) VALUES ('i', $1, 'a'), ('j', $1, 'b')`, [user])
    await server.sql(`INSERT INTO items (id, owner_id, list_id) VALUES ('k', $1, 'x')`, [other])
    await server.sql(`UPDATE lists SET colour = 'red' WHERE id IN ('a', 'x')`)
    await server.sql(`UPDATE lists SET due = '2026-11-28 12:00+00' WHERE id = 'b'`)
    await phone.sync() // an old app is sent the values, and does not keep them

    const two = await appOf(connect(server, user), ['lists', 'items'], one.schema.version)
    assert(two.schema.version > one.schema.version)
    phone.open(two, ['lists', 'items'], one.schema.version)
    await server.sql(`DELETE FROM lists WHERE id = 'c'`)
    const heard = await complaintsDuring(() => phone.sync())
    assert.deepEqual(heard, [])
    const { args, body } = phone.pulls.at(-1)
    assert.deepEqual(args.migration, {
      from: one.schema.version, tables: ['items'], columns: [{ table: 'lists', columns: ['colour', 'size', 'due'] }],
    })
    const { changes, experimentalStrategy } = JSON.parse(body)
    assert.equal(experimentalStrategy, undefined)
    assert.deepEqual(changes.lists.updated.map((row) => row.id).sort(), ['a', 'b'])
    assert.deepEqual(changes.items.created.map((row) => row.id).sort(), ['i', 'j'])
    assert.deepEqual(changes.lists.deleted, ['c'])

    const fresh = new Phone(user)
    fresh.open(two, ['lists', 'items'])
    await fresh.sync()
    assert.deepEqual(await phone.contents(), await fresh.contents())
    assert.deepEqual(await deviceRows(phone.database, 'lists'), [
      { id: 'a', title: 'a', colour: 'red', size: null, due: null },
      { id: 'b', title: 'b', colour: null, size: null, due: Date.UTC(2026, 10, 28, 12) },
    ])
    // The next pull is an ordinary one.
    await phone.sync()
    assert.deepEqual([phone.pulls.at(-1).args.migration, JSON.parse(phone.pulls.at(-1).body).changes],
      [null, { lists: empty, items: empty }])
    // What it writes into its new columns and tables is pushed.
    await phone.database.write(async () => {
      const list = await phone.database.get('lists').find('b')
      await list.update((l) => { l._setRaw('colour', 'blue') })
    })
    await phone.sync()
    assert.deepEqual((await server.as(user, `SELECT colour FROM lists WHERE id = 'b'`))[0].colour, 'blue')
  })

  it('is told to start anew where no steps lead there', async () => {
    const user = newUser()
    await server.sql(secured('changed', ', n int'))
    const one = await appOf(connect(server, user), ['changed'])
    await server.sql('ALTER TABLE changed ALTER COLUMN n TYPE text')
    await assert.rejects(appOf(connect(server, user), ['changed'], one.schema.version), /anew/)
  })
})
