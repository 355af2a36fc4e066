// Devices that do anything in any order converge. A failure names its seed; SEED=n runs that one alone.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { complaintsDuring, newUser, testServer } from '../lib/testing.mjs'

const server = testServer('random')
const SEEDS = process.env.SEED ? [Number(process.env.SEED)] : [1, 2, 3, 4, 5, 6]
const STEPS = Number(process.env.STEPS ?? 120)

// mulberry32: the same numbers for the same seed
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

// What an app does about a new task whose project somebody else has deleted meanwhile: the task goes too.
async function dropOrphans(device) {
  const projects = new Set(await device.database.get('projects').query().fetchIds())
  const orphans = (await device.tasks()).filter((t) => t.syncStatus === 'created' && !projects.has(t.project.id))
  await device.database.write(() => device.database.batch(orphans.map((t) => t.prepareDestroyPermanently())))
}

async function settle(device) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await device.syncOnce()
    } catch (error) {
      if (attempt === 5) throw error
      if (error.code === '23503') await dropOrphans(device)
      else if (error.code !== 'PT409') throw error
    }
  }
}

for (const seed of SEEDS) {
  it(`seed ${seed}, ${STEPS} steps`, async () => {
    const next = random(seed)
    const below = (n) => Math.floor(next() * n)
    const pick = (list) => list[below(list.length)]
    const [alice, bob] = [newUser(), newUser()]
    const devices = [
      server.device(alice, 'sqlite'), server.device(alice, 'loki'), server.device(alice, 'loki'),
      server.device(bob, 'sqlite'),
    ]
    for (const user of [alice, bob]) await server.seed(user)
    for (const device of devices.slice(seed % 2)) device.quiet = true // all of them, or all but one

    const edits = [
      (n) => ({ title: `title ${n}` }), () => ({ done: next() < 0.5 }), (n) => ({ views: n }),
      (n) => ({ labels: [`label ${n}`] }), (n) => ({ dueAt: next() < 0.3 ? null : new Date(1.7e12 + n) }),
    ]
    const steps = [
      [8, async (device, n) => {
        const projects = await device.database.get('projects').query().fetch()
        if (projects.length) await device.addTask(pick(projects), `task ${n}`)
      }],
      [3, (device, n) => device.addProject(`project ${n}`)],
      [10, async (device, n) => {
        const tasks = await device.tasks()
        const change = pick(edits)(n)
        if (tasks.length) await device.database.write(() => pick(tasks).update((t) => Object.assign(t, change)))
      }],
      [4, async (device) => {
        const tasks = await device.tasks()
        if (tasks.length) await device.database.write(() => pick(tasks).markAsDeleted())
      }],
      [1, async (device) => {
        const projects = await device.database.get('projects').query().fetch()
        if (projects.length) await device.database.write(() => pick(projects).experimentalMarkAsDeleted())
      }],
      [3, async ({ user }, n) => server.sql( // the server's own hands
        pick([
          `UPDATE tasks SET title = 'server ${n}' WHERE id = (SELECT id FROM tasks WHERE owner_id = $1 ORDER BY title, id LIMIT 1)`,
          `DELETE FROM tasks WHERE id = (SELECT id FROM tasks WHERE owner_id = $1 ORDER BY title, id LIMIT 1)`,
          `INSERT INTO tasks (owner_id, project_id, title) SELECT owner_id, id, 'server ${n}' FROM projects WHERE owner_id = $1 LIMIT 1`,
        ]), [user])],
      [1, async ({ user }) => { // a project changes hands, with its tasks
        const [moved] = await server.sql(
          'UPDATE projects SET owner_id = $2 WHERE id = (SELECT id FROM projects WHERE owner_id = $1 ORDER BY name, id LIMIT 1) RETURNING id',
          [user, user === alice ? bob : alice])
        if (moved) await server.sql('UPDATE tasks t SET owner_id = p.owner_id FROM projects p WHERE p.id = t.project_id AND p.id = $1', [moved.id])
      }],
      [6, (device) => settle(device)],
      [3, async (device) => { // somebody else gets between pull and push
        const other = pick(devices.filter((d) => d !== device))
        device.network.beforePush = () => settle(other)
        await settle(device)
        device.network.beforePush = null
      }],
      [1, async (device) => {
        device.network.loseAnswer = true
        await settle(device).catch((error) => assert.match(error.message, /fetch failed/))
        device.network.loseAnswer = false
      }],
      [1, (device) => device.adapter === 'sqlite' && device.restart()],
    ].flatMap(([weight, step]) => Array(weight).fill(step))

    const heard = await complaintsDuring(async () => {
      for (let n = 0; n < STEPS; n++) await pick(steps)(pick(devices), n)
      for (let round = 0; round < 3; round++) for (const device of devices) await settle(device)
    })
    for (const device of devices) await device.check()
    assert.deepEqual(heard, [])
  })
}
