// supabase-js as an app uses it, on a network that can be switched off and listened to.

import './environment.mjs'
import { createClient } from '@supabase/supabase-js'
import { token } from '../rpc.mjs'

export class Network {
  online = true
  calls = [] // { name, args, status, body } of every call that reached the server
  beforePush = null // runs once, when a push leaves the device: somebody else is quicker
  loseAnswer = false // to the next push: the server has it, the device does not know

  fetch = async (url, init) => {
    const name = new URL(url).pathname.split('/').pop()
    if (!this.online) throw new TypeError('fetch failed')
    if (name === 'push_changes' && this.beforePush) {
      const meanwhile = this.beforePush
      this.beforePush = null
      await meanwhile()
    }
    const response = await fetch(url, init)
    const body = await response.clone().text()
    if (name === 'push_changes' && this.loseAnswer) {
      this.loseAnswer = false
      throw new TypeError('fetch failed')
    }
    this.calls.push({ name, args: init.body && JSON.parse(init.body), status: response.status, body })
    return response
  }
}

export function connect(server, user, network = new Network()) {
  return createClient(server.url, token({ role: 'anon' }), {
    accessToken: async () => server.token(user),
    global: { fetch: network.fetch },
  })
}

const count = (rows) => rows?.length ?? 0

// "pulled 2 created; pushed 1 updated" out of what went over the network.
export function summary(calls) {
  const parts = []
  for (const { name, args, status, body } of calls) {
    const answer = JSON.parse(body || 'null')
    const changes = Object.values((name === 'pull_changes' ? answer : args).changes ?? {})
    const counts = ['created', 'updated', 'deleted']
      .map((kind) => [changes.reduce((n, c) => n + count(c[kind]), 0), kind])
      .filter(([n]) => n > 0)
      .map(([n, kind]) => `${n} ${kind}`)
    const replaced = Object.entries(answer?.experimentalStrategy?.override ?? {}).map(([table]) => `, ${table} anew`)
    parts.push(
      `${name === 'pull_changes' ? 'pulled' : 'pushed'} ${counts.join(', ') || 'nothing'}${replaced.join('')}` +
      (status < 300 ? '' : ` -> HTTP ${status} ${answer.code}: ${answer.message}`))
  }
  return parts.join('; ')
}
