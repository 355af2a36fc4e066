// What a session can be shown of the statements that a pull runs: nothing of other tenants' rows, neither their ids nor their old values.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { testServer } from '../lib/testing.mjs'

const server = testServer('plans', `
  CREATE TABLE letters (id text PRIMARY KEY, owner text NOT NULL, of text);
  CREATE TABLE clubs (id text PRIMARY KEY, who text NOT NULL);
  CREATE TABLE rooms (id text PRIMARY KEY, club text REFERENCES clubs ON DELETE CASCADE);
  CREATE TABLE passes (id text PRIMARY KEY, who text NOT NULL, room text);
  CREATE TABLE doors (id text PRIMARY KEY);
  ALTER TABLE letters ENABLE ROW LEVEL SECURITY;
  ALTER TABLE clubs ENABLE ROW LEVEL SECURITY;
  ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
  ALTER TABLE doors ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own ON letters USING (owner = current_user);
  CREATE POLICY own ON clubs USING (who = current_user);
  CREATE POLICY own ON rooms USING (EXISTS (SELECT FROM clubs WHERE clubs.id = rooms.club));
  CREATE POLICY own ON doors USING (id IN (SELECT room FROM passes WHERE who = current_user));
  GRANT SELECT ON letters, clubs, rooms, passes, doors TO authenticated;
  SELECT snapsync.enable(t) FROM unnest('{letters,clubs,rooms,doors}'::regclass[]) AS t;
`)

// Texts that stand as bytes in a printed tree (a Const is printed as numbers), and the trees themselves.
function texts(message) {
  const consts = [...message.matchAll(/\[\s*((?:-?\d+\s+)+)\]/g)]
  return message + consts.map((m) => Buffer.from(m[1].trim().split(/\s+/).map((n) => Number(n) & 255)).toString('latin1')).join('\n')
}

for (const rows of [3, 150, 1500]) {
  it(`prints plans without the ${rows} rows of others`, async () => {
    const session = await server.session()
    const shown = []
    session.on('notice', (n) => shown.push(texts(`${n.message}\n${n.detail}`)))
    try {
      await session.query('SET ROLE authenticated')
      const pull = async (cursor) =>
        (await session.query(`SELECT pull_changes('{letters,clubs,rooms,doors}', $1) AS answer`, [cursor])).rows[0].answer
      const { timestamp } = await pull(null)
      await server.sql('INSERT INTO letters SELECT $2 || i, $3, $4 FROM generate_series(1, $1::int) AS i', [rows, `secret-${rows}-`, 'secretowner', 'x'])
      await server.sql('UPDATE letters SET of = $1', ['y'])
      await server.sql('DELETE FROM letters')
      await server.sql('INSERT INTO clubs SELECT $2 || i, $3 FROM generate_series(1, $1::int) AS i', [rows, `secretclub-${rows}-`, 'secretmember'])
      await server.sql(`INSERT INTO rooms SELECT 'secretroom-' || id, id FROM clubs`)
      await server.sql('DELETE FROM clubs')
      await server.sql('INSERT INTO passes SELECT $2 || i, $3, $4 FROM generate_series(1, $1::int) AS i', [rows, `secretpass-${rows}-`, 'secretwho', 'secretdoor'])
      await session.query(`SET client_min_messages = log; SET debug_print_parse = on; SET debug_print_rewritten = on;
        SET debug_print_plan = on; SET debug_pretty_print = off; SET plan_cache_mode = force_custom_plan`)
      const answer = await pull(String(timestamp))
      assert.ok(shown.some((text) => text.includes('PLANNEDSTMT')), 'plans are printed')
      const leaks = shown.flatMap((text) => text.match(/secret[a-z0-9-]*/g) ?? [])
      assert.deepEqual([...new Set(leaks)].slice(0, 5), [])
      for (const name of ['letters', 'clubs', 'rooms', 'doors']) {
        assert.deepEqual(answer.changes[name], { created: [], updated: [], deleted: [] })
      }
    } finally {
      await session.end()
    }
  })
}
