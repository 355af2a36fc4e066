// The README and docs/clients.md show the snippets that the demo and the tests run, to the letter. The README's SQL, pasted into
// psql from the first block to the last, answers what stands there.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { it } from 'node:test'
import { databaseUrl } from '../lib/environment.mjs'
import { openServer } from '../lib/postgres.mjs'

const read = (path) => readFile(new URL(path, import.meta.url), 'utf8')

const QUOTES = [
  ['README.md', 'watermelondb.mjs'], ['README.md', 'supabase.mjs'], ['docs/clients.md', 'watermelondb-quiet.mjs'],
  ['docs/clients.md', 'pages.mjs'], ['docs/clients.md', 'watermelondb-pages.mjs'],
  ['docs/clients.md', 'migrations.mjs'], ['docs/clients.md', 'views.mjs'],
]

for (const [page, name] of QUOTES) {
  it(`${page} quotes snippets/${name}`, async () => {
    const readme = await read(`../../../${page}`)
    const blocks = [...readme.matchAll(/^```(?:js|javascript|mjs)\n(.*?)^```/gms)].map(([, code]) => code)
    const snippet = await read(`../snippets/${name}`)
    assert(blocks.includes(snippet), `the block in ${page} differs from snippets/${name}`)
  })
}

const uriOf = (database) => Object.assign(new URL(databaseUrl()), { pathname: `/${database}` }).href

// Answers are lines that begin with {. A comment has them as `-- {`, and goes on in lines that are indented.
const answers = (text) => text.match(/^\{.*$/gm).map((answer) => JSON.parse(answer.replace(/"timestamp":\d+/, '"timestamp":0')))

it('the SQL of README.md works as pasted, on plain PostgreSQL', async () => {
  // Tests share the roles of Supabase, and may have made them: the one line that a fresh cluster needs is left out.
  const name = `snapsync_clients_readme_${process.pid}`
  const server = await openServer(name, [])
  try {
    await server.sql(`DO $$ BEGIN CREATE ROLE authenticated; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
    const readme = await read('../../../README.md')
    const sql = [...readme.matchAll(/^```sql\n(.*?)^```/gms)].map(([, code]) => code).join('').replace(/^CREATE ROLE authenticated;$/m, '')
    const psql = process.env.SNAPSYNC_PG_BIN ? `${process.env.SNAPSYNC_PG_BIN}/psql` : 'psql'
    const printed = await new Promise((resolve, reject) => {
      const flags = ['--no-psqlrc', '--quiet', '--no-align', '--tuples-only', '--set', 'ON_ERROR_STOP=1', uriOf(name)]
      const child = execFile(psql, flags, (error, stdout, stderr) => (error ? reject(new Error(stderr || error.message)) : resolve(stdout)))
      child.stdin.end(sql)
    })
    assert.deepEqual(answers(printed), answers(sql.replace(/\n--  +/g, '').replace(/^-- /gm, '')))
    assert.match(readme, /^```sql\n(?:(?!^```)[^])*SET LOCAL ROLE authenticated;/m, 'it shows a pull as a user')
  } finally {
    await server.close()
  }
})
