// The README shows the snippets that the demo runs, to the letter.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { it } from 'node:test'

const read = (path) => readFile(new URL(path, import.meta.url), 'utf8')

for (const name of ['watermelondb.mjs', 'supabase.mjs']) {
  it(`README quotes snippets/${name}`, async (t) => {
    const readme = await read('../../../README.md').catch(() => '')
    const blocks = [...readme.matchAll(/^```(?:js|javascript|mjs)\n(.*?)^```/gms)].map(([, code]) => code)
    const snippet = await read(`../snippets/${name}`)
    const [imported] = snippet.match(/^(import|export) .*$/m)
    if (!blocks.some((block) => block.includes(imported))) return t.skip('the README has no such block yet')
    assert(blocks.includes(snippet), `the README's block differs from snippets/${name}`)
  })
}
