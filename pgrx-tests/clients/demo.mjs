// The main job of snapsync, on real clients: two WatermelonDB devices and a browser of one user, and a device of another
// tenant, work offline and meet again. Every step is checked against what the server says under row-level security.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { databaseUrl } from './lib/environment.mjs'
import { complaints, setGenerator } from './lib/app.mjs'
import { connect, Network, summary } from './lib/client.mjs'
import { assertReplica } from './lib/contents.mjs'
import { Device } from './lib/device.mjs'
import { openServer } from './lib/postgres.mjs'
import { pull, push } from './snippets/supabase.mjs'

databaseUrl() // says so when it is missing

const ALICE = '00000000-0000-4000-8000-0000000a11ce'
const BOB = '00000000-0000-4000-8000-000000000b0b'

// uuids, the same ones in every run
let ids = 0
const uuid = () => {
  const hex = createHash('sha256').update(`snapsync demo ${++ids}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
setGenerator(uuid)

const WIDTH = 9
const say = (who, what) => console.log(`  ${who.padEnd(WIDTH)}${what}`)
let chapters = 0
const chapter = (title) => console.log(`\n${++chapters}. ${title}`)

// Alice's browser: plain supabase-js, no database of its own.
class Browser {
  name = 'browser'
  network = new Network()
  replica = { clientId: uuid(), cursor: null, projects: new Map(), tasks: new Map() }

  constructor(server, user) {
    Object.assign(this, { server, user })
    this.supabase = connect(server, user, this.network)
  }

  async sync() {
    const before = this.network.calls.length
    await pull(this.supabase, this.replica)
    say(this.name, summary(this.network.calls.slice(before)))
  }

  async push(changes) {
    const before = this.network.calls.length
    await push(this.supabase, this.replica, changes)
    say(this.name, summary(this.network.calls.slice(before)))
  }

  contents() {
    return [[...this.replica.projects.values()], [...this.replica.tasks.values()]]
  }

  check() {
    return assertReplica(this.server, this.user, this.replica, this.name)
  }
}

async function table(devices) {
  console.log()
  for (const device of devices) {
    const [projects, tasks] = await device.contents()
    const lines = projects
      .map((p) => {
        const own = tasks.filter((t) => (t.project?.id ?? t.project_id) === p.id)
        return `${p.name}: ${own.map((t) => `[${t.done ? 'x' : ' '}] ${t.title}`).sort().join(', ') || '-'}`
      })
      .sort()
    say(device.name, `| ${lines.join('\n' + ' '.repeat(WIDTH + 2) + '| ') || '(empty)'}`)
  }
}

async function byHand(server, statement) {
  say('SQL', statement)
  await server.sql(statement)
}

const server = await openServer(`snapsync_demo_${process.pid}`)
const directory = await mkdtemp(join(tmpdir(), 'snapsync-demo-'))
try {
  const phone = new Device(server, ALICE, 'phone', 'sqlite', join(directory, 'phone.db'), say)
  const laptop = new Device(server, ALICE, 'laptop', 'loki', 'laptop', say)
  const tablet = new Device(server, BOB, 'tablet', 'sqlite', join(directory, 'tablet.db'), say)
  const browser = new Browser(server, ALICE)
  const alices = [phone, laptop, browser]
  const all = [...alices, tablet]
  const syncAll = async (devices) => { for (const device of devices) await device.sync() }
  const checkAll = async (devices) => { for (const device of devices) await device.check() }

  console.log('Alice has a phone (WatermelonDB on SQLite), a laptop (WatermelonDB on LokiJS) and a browser (supabase-js).')
  console.log('Bob, another tenant, has a tablet (WatermelonDB on SQLite). All speak HTTP to pull_changes and push_changes.')

  chapter('First sync: everybody gets what row-level security lets them see')
  const [garden, boat] = [uuid(), uuid()]
  await server.sql(`INSERT INTO projects (id, owner_id, name) VALUES ($1, $2, 'Garden'), ($3, $4, 'Boat')`,
    [garden, ALICE, boat, BOB])
  await server.sql(
    `INSERT INTO tasks (id, owner_id, project_id, title, labels) VALUES
       ($1, $4, $5, 'Dig beds', '["spring"]'), ($2, $4, $5, 'Sow peas', '[]'), ($3, $6, $7, 'Paint hull', '[]')`,
    [uuid(), uuid(), uuid(), ALICE, garden, BOB, boat])
  await syncAll(all)
  await checkAll(all)
  await table(all)

  chapter('Offline: everybody works on')
  for (const device of all) device.network.online = false
  const kitchen = await phone.addProject('Kitchen')
  await phone.addTask(kitchen, 'Buy paint', { labels: ['shop', 'the "blue" one'] })
  await phone.addTask(kitchen, 'Paint walls', { dueAt: new Date('2026-03-01T08:30:00Z') })
  const shed = await phone.addProject('Shed')
  await phone.addTask(shed, 'Mend roof')
  say('phone', 'adds the projects Kitchen (2 tasks) and Shed (1 task)')
  await laptop.editTask('Dig beds', { done: true })
  say('laptop', 'ticks "Dig beds"')
  await tablet.addTask(await tablet.project('Boat'), 'Varnish mast')
  say('tablet', 'adds "Varnish mast"')
  await assert.rejects(phone.syncOnce(), /fetch failed/)
  await table(all)

  chapter('Online again')
  for (const device of all) device.network.online = true
  await syncAll(all)
  await syncAll(all) // once more: the later devices' changes reach the earlier ones
  await checkAll(all)
  await table(all)

  chapter('Conflict: phone and laptop edit the same task, and the phone is quicker')
  await phone.editTask('Sow peas', { title: 'Sow peas and beans' })
  say('phone', 'renames "Sow peas" to "Sow peas and beans"')
  await laptop.editTask('Sow peas', { done: true, views: 3 })
  say('laptop', 'ticks "Sow peas"; it pulls, and while its push is on its way:')
  laptop.network.beforePush = () => phone.sync()
  await laptop.sync()
  const conflict = laptop.network.calls.find(({ status }) => status === 409)
  assert(conflict, 'the laptop got no conflict')
  const both = await laptop.task('Sow peas and beans')
  assert(both.done && both.views === 3, 'the laptop lost its own columns')
  assert.deepEqual(JSON.parse(JSON.parse(conflict.body).details), [{ collection: 'tasks', id: both.id }])
  await syncAll(alices)
  await syncAll([laptop]) // its own merged row, once more
  await checkAll(all)
  await table(alices)

  chapter('Delete with children, and a restart')
  await phone.database.write(async () => (await phone.project('Kitchen')).experimentalMarkAsDeleted())
  say('phone', 'deletes Kitchen with its tasks, offline; then its app is killed and starts again')
  phone.restart()
  await syncAll(alices)
  await browser.push({ tasks: { created: [{ id: uuid(), project_id: garden, title: 'Water', labels: [] }] } })
  await syncAll(alices)
  await checkAll(all)
  await table(alices)

  chapter('The server has its own hands')
  await byHand(server, `UPDATE tasks SET views = 9007199254740991, due_at = '2026-04-01 06:00:00.123+02' WHERE title = 'Water'`)
  await byHand(server, `DELETE FROM tasks WHERE title = 'Dig beds'`)
  await byHand(server, `INSERT INTO tasks (owner_id, project_id, title) SELECT owner_id, id, 'Pick apples' FROM projects WHERE name = 'Garden'`)
  await syncAll(alices)
  await checkAll(all)
  await table(alices)

  chapter("Nothing of Alice's has reached Bob; then Shed changes hands")
  const heard = tablet.network.calls.map(({ body }) => body).join('\n')
  const hers = await server.sql(`SELECT id FROM projects WHERE owner_id = $1 UNION ALL SELECT id FROM tasks WHERE owner_id = $1`, [ALICE])
  for (const id of [...hers.map((row) => row.id), kitchen.id]) assert(!heard.includes(id), 'Bob heard of a row of Alice')
  say('tablet', `has never been told any of Alice's ${hers.length} ids`)
  await byHand(server, `UPDATE projects SET owner_id = '${BOB}' WHERE name = 'Shed'`)
  await byHand(server, `UPDATE tasks SET owner_id = '${BOB}' WHERE title = 'Mend roof'`)
  await syncAll(all)
  await checkAll(all)
  assert.equal((await tablet.project('Shed')).id, shed.id)
  await table(all)

  chapter('All quiet: one more sync of everybody moves nothing')
  for (const device of all) {
    const before = device.network.calls.length
    await device.sync()
    for (const { name, body } of device.network.calls.slice(before)) {
      assert.equal(name, 'pull_changes', `${device.name} still had something to push`)
      for (const { created, deleted } of Object.values(JSON.parse(body).changes)) {
        assert.equal(created.length + deleted.length, 0, `${device.name} was sent something new`)
      }
    }
  }
  await checkAll(all)
  for (const complaint of complaints) say('', complaint)
  console.log(`\n  every device equals its user's own SELECT, column by column; WatermelonDB complained ${complaints.length} times`)
  assert.equal(complaints.length, 0)
  console.log('converged')
} catch (error) {
  for (const complaint of complaints) console.error(complaint)
  console.error(error)
  process.exitCode = 1
} finally {
  await server.close().catch((error) => { console.error(error.message); process.exitCode = 1 })
  await rm(directory, { recursive: true, force: true })
}
