// The shim itself: it must be as strict as PostgREST, or the other tests prove little.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { token } from '../rpc.mjs'
import { newUser, testServer } from '../lib/testing.mjs'

const server = testServer('rpc', `
  CREATE FUNCTION whoami(greeting text DEFAULT 'hello') RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('greeting', greeting, 'role', current_user, 'uid', auth.uid(),
                             'read_only', current_setting('transaction_read_only'),
                             'isolation', current_setting('transaction_isolation')) $$;
  CREATE FUNCTION octets() RETURNS snapsync."*/*" LANGUAGE sql STABLE AS $$ SELECT '{"n": 1}'::json $$;
  CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS 'SELECT';
  CREATE FUNCTION fails(state text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no' USING ERRCODE = state, DETAIL = 'd', HINT = 'h'; END $$;
`)

describe('the PostgREST shim', () => {
  it('calls as the role and user of the token, in the transaction PostgREST would use', async () => {
    const user = newUser()
    const { json } = await server.rpc(user, 'whoami', { greeting: 'hi "there"' })
    assert.deepEqual(json, { greeting: 'hi "there"', role: 'authenticated', uid: user, read_only: 'on', isolation: 'read committed' })
    const { json: nobody } = await server.rpc(null, 'whoami', {})
    assert.deepEqual([nobody.role, nobody.uid, nobody.greeting], ['anon', null, 'hello'])
    assert.equal((await server.rpc(user, 'writes', {})).status, 204)
  })

  it('takes a domain named as a media type for the answer itself, of octets unless it says other', async () => {
    const bearer = token({ role: 'authenticated', sub: newUser() })
    const ask = (name, body, accept) => fetch(`${server.url}/rest/v1/rpc/${name}`, {
      method: 'POST', body, headers: { authorization: `Bearer ${bearer}`, ...(accept && { accept }) },
    })
    const json = 'application/json; charset=utf-8'
    const pull = '{"collections": ["tasks"]}'
    for (const [name, body, accept, wanted] of [
      ['octets', '{}', undefined, 'application/octet-stream'],
      ['octets', '{}', 'application/vnd.pgrst.object+json', json],
      ['whoami', '{}', undefined, json],
      // What pull_changes answers is JSON whatever a client accepts, and no client is told another type than before.
      ['pull_changes', pull, undefined, json],
      ['pull_changes', pull, 'application/json', json],
      ['pull_changes', pull, 'application/vnd.pgrst.object+json', json],
    ]) {
      const answer = await ask(name, body, accept)
      assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, wanted], `${name} ${accept}`)
      JSON.parse(await answer.text())
    }
  })

  it('refuses tokens that it did not sign, and old ones', async () => {
    const claims = { role: 'authenticated', sub: newUser() }
    const forged = [
      token(claims, 'another secret'), `${token(claims)}x`, 'nonsense',
      token({ ...claims, exp: Math.floor(Date.now() / 1000) - 1 }),
      token(claims).replace(/\.[^.]+\./, `.${Buffer.from('{"role":"postgres"}').toString('base64url')}.`),
    ]
    for (const bearer of forged) {
      const { status } = await fetch(`${server.url}/rest/v1/rpc/whoami`, {
        method: 'POST', body: '{}', headers: { authorization: `Bearer ${bearer}` },
      })
      assert.equal(status, 401, bearer)
    }
  })

  it('finds functions by argument names only', async () => {
    for (const [name, args] of [['whoami', { other: 1 }], ['nothing', {}], ['fails', {}]]) {
      const { status, json } = await server.rpc(newUser(), name, args)
      assert.deepEqual([status, json.code], [404, 'PGRST202'])
    }
  })

  it('turns SQLSTATEs into statuses', async () => {
    for (const [state, wanted] of [['PT409', 409], ['42501', 403], ['23505', 409], ['22023', 400], ['XX000', 500], ['42P01', 404], ['40001', 500]]) {
      const { status, json } = await server.rpc(newUser(), 'fails', { state })
      assert.deepEqual([status, json], [wanted, { code: state, details: 'd', hint: 'h', message: 'no' }])
    }
    assert.equal((await server.rpc(null, 'fails', { state: '42501' })).status, 401)
    assert.equal((await server.rpc(newUser(), 'whoami', '{nonsense')).status, 400)
  })
})
