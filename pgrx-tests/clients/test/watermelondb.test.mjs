// WatermelonDB's contract, with the real thing, on both adapters.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { synchronize } from '@nozbe/watermelondb/sync/index.js'
import { pullPagesAsOne } from '../snippets/watermelondb-pages.mjs'
import { Q } from '../lib/app.mjs'
import { deviceRows } from '../lib/contents.mjs'
import { complaintsDuring, lastCall, newUser, pulled, testServer } from '../lib/testing.mjs'

const server = testServer('watermelondb')

const titles = async (device) => (await device.tasks()).map((t) => t.title).sort()
const ids = (rows) => rows.map((row) => row.id ?? row).sort()

for (const adapter of ['sqlite', 'loki']) {
  describe(`WatermelonDB on ${adapter}`, () => {
    // A user with a seeded project and `n` devices that have pulled it.
    async function start(n = 1) {
      const user = newUser()
      const project = await server.seed(user)
      const devices = Array.from({ length: n }, () => server.device(user, adapter))
      for (const device of devices) await device.syncOnce()
      return { user, project, devices }
    }

    it('gets everything on the first sync, as created', async () => {
      const { user, devices: [device] } = await start()
      await server.seed(newUser(), 'Not yours')
      await device.check()
      const { changes, timestamp, ...rest } = pulled(device)
      assert.deepEqual(Object.keys(changes).sort(), ['projects', 'tasks'])
      assert.deepEqual([changes.projects.created.length, changes.tasks.created.length], [1, 2])
      for (const { updated, deleted } of Object.values(changes)) assert.deepEqual([updated, deleted], [[], []])
      assert(Number.isSafeInteger(timestamp) && timestamp > 0)
      assert.deepEqual(rest, {})
      assert.equal((await server.as(user, 'SELECT FROM tasks')).length, 2)
    })

    it('takes the pages of a pull as one answer', async () => {
      const { user, project, devices: [device] } = await start()
      const rpc = async (name, args) => (await device.supabase
        .rpc(name, { ...args, dialect: 'watermelondb', ...(args.page_size && { page_size: 2 }) }).throwOnError()).data
      const syncInPages = () => synchronize({
        database: device.database,
        pullChanges: ({ lastPulledAt }) =>
          pullPagesAsOne(rpc, { collections: ['projects', 'tasks'], last_pulled_at: lastPulledAt }),
        pushChanges: ({ changes, lastPulledAt }) => rpc('push_changes', { changes, last_pulled_at: lastPulledAt }),
      })
      await server.sql(
        `INSERT INTO tasks (owner_id, project_id, title) SELECT $1, $2, 'Task ' || n FROM generate_series(1, 9) AS n`, [user, project])
      await server.sql(`DELETE FROM tasks WHERE title = 'Sow' AND owner_id = $1`, [user])
      const calls = device.network.calls.length
      await syncInPages()
      assert(device.network.calls.length - calls >= 5)
      await device.check()
      // A replacement takes nothing away that waits to be pushed, whatever page its row is on.
      await device.editTask('Task 5', { done: true })
      await server.sql(`SELECT snapsync.reset('tasks')`)
      await syncInPages()
      await device.check()
      assert.equal((await device.task('Task 5')).done, true)
      assert.deepEqual(await server.sql(`SELECT done FROM tasks WHERE title = 'Task 5' AND owner_id = $1`, [user]), [{ done: true }])
    })

    it('gets an empty first sync when there is nothing', async () => {
      const device = server.device(newUser(), adapter)
      await device.syncOnce()
      assert.deepEqual(pulled(device).changes, {
        projects: { created: [], updated: [], deleted: [] }, tasks: { created: [], updated: [], deleted: [] },
      })
      assert(pulled(device).timestamp > 0) // WatermelonDB throws on 0
    })

    it('gets what was created, updated and deleted since', async () => {
      const { user, project, devices: [device] } = await start()
      await server.sql('INSERT INTO tasks (owner_id, project_id, title) VALUES ($1, $2, $3)', [user, project, 'Water'])
      await server.sql(`UPDATE tasks SET done = true WHERE title = 'Dig' AND owner_id = $1`, [user])
      const [gone] = await server.sql(`DELETE FROM tasks WHERE title = 'Sow' AND owner_id = $1 RETURNING id`, [user])
      const heard = await complaintsDuring(() => device.syncOnce())
      const { projects, tasks } = pulled(device).changes
      assert.deepEqual(projects, { created: [], updated: [], deleted: [] })
      assert.deepEqual(tasks.created.map((t) => t.title), ['Water'])
      assert.deepEqual(tasks.updated.map((t) => t.title), ['Dig'])
      assert.deepEqual(tasks.deleted, [gone.id])
      await device.check()
      assert.deepEqual(heard, [])
    })

    it('hears nothing of a row that came and went between two syncs', async () => {
      const { user, project, devices: [device] } = await start()
      await server.sql('INSERT INTO tasks (owner_id, project_id, title) VALUES ($1, $2, $3)', [user, project, 'Brief'])
      await server.sql(`DELETE FROM tasks WHERE title = 'Brief' AND owner_id = $1`, [user])
      await device.syncOnce()
      assert.deepEqual(pulled(device).changes.tasks.created, [])
      await device.check()
    })

    it('has timestamps as milliseconds, jsonb as a string, and whole bigints', async () => {
      const { user, devices: [device] } = await start()
      await server.sql(
        `UPDATE tasks SET due_at = '1969-12-31 23:59:59.999+00', views = 9007199254740991,
                          labels = '{"b": [1.10, null], "a": "\\"\\u00e9\\n"}' WHERE title = 'Dig' AND owner_id = $1`, [user])
      await server.sql(
        `UPDATE tasks SET due_at = '2026-02-03 04:05:06.789+02', views = -9007199254740991
          WHERE title = 'Sow' AND owner_id = $1`, [user])
      await device.syncOnce()
      const rows = Object.fromEntries((await deviceRows(device.database, 'tasks')).map((row) => [row.title, row]))
      assert.equal(rows.Dig.due_at, -1)
      assert.equal(rows.Dig.views, 9007199254740991)
      assert.equal(typeof rows.Dig.labels, 'string')
      assert.deepEqual(JSON.parse(rows.Dig.labels), { a: '"é\n', b: [1.1, null] })
      assert.equal(rows.Sow.due_at, Date.UTC(2026, 1, 3, 2, 5, 6, 789))
      assert.equal(rows.Sow.views, -9007199254740991)
      await device.check()
    })

    it('pushes what it created, updated and deleted', async () => {
      const { user, devices: [device, other] } = await start(2)
      const task = await device.addTask(await device.project('Garden'), 'Water "daily"\n\t✓', {
        labels: ['a', { b: 'ü' }], dueAt: new Date(1_700_000_000_123), views: 9007199254740991,
      })
      await device.editTask('Dig', { done: true })
      await device.deleteTask('Sow')
      await device.syncOnce()
      const rows = await server.as(user, `SELECT id, title, done, views::text, labels, due_at FROM tasks ORDER BY done`)
      assert.deepEqual(rows.map((r) => r.title), ['Water "daily"\n\t✓', 'Dig'])
      assert.deepEqual(
        [rows[0].id, rows[0].labels, rows[0].views, +rows[0].due_at],
        [task.id, ['a', { b: 'ü' }], '9007199254740991', 1_700_000_000_123])
      assert.equal(rows[1].done, true)
      await other.syncOnce()
      await other.check()
      await device.syncOnce()
      await device.check()
    })

    it('is not told to create the rows that it pushed itself', async () => {
      const { devices: [device, other] } = await start(2)
      const task = await device.addTask(await device.addProject('Kitchen'), 'Paint')
      await device.syncOnce()
      assert.deepEqual(await complaintsDuring(() => device.syncOnce()), [])
      const { projects, tasks } = pulled(device).changes
      assert.deepEqual([projects.created, tasks.created], [[], []])
      await other.syncOnce()
      assert.deepEqual(ids(pulled(other).changes.tasks.created), [task.id]) // for others they are new
      await device.check()
    })

    it('with sendCreatedAsUpdated on both sides has nothing to complain about, not even after a reset', async () => {
      const user = newUser()
      const project = await server.seed(user)
      const device = server.device(user, adapter)
      const { database, supabase } = device
      const sync = () => synchronize({
        database,
        sendCreatedAsUpdated: true,
        pullChanges: async ({ lastPulledAt }) => (await supabase.rpc('pull_changes', {
          collections: ['projects', 'tasks'], last_pulled_at: lastPulledAt, dialect: 'watermelondb', send_created_as_updated: true,
        }).throwOnError()).data,
        pushChanges: async ({ changes, lastPulledAt }) => (await supabase.rpc('push_changes', {
          changes, last_pulled_at: lastPulledAt, dialect: 'watermelondb',
        }).throwOnError()).data,
      })
      const heard = await complaintsDuring(async () => {
        await sync()
        assert.deepEqual(ids(pulled(device).changes.tasks.created), [])
        assert.equal(pulled(device).changes.tasks.updated.length, 2)
        await device.addTask(await device.project('Garden'), 'Water')
        await sync()
        await sync()
        await server.sql('INSERT INTO tasks (owner_id, project_id, title) VALUES ($1, $2, $3)', [user, project, 'Weed'])
        await server.sql(`SELECT snapsync.reset('tasks')`)
        await sync()
      })
      assert.deepEqual(heard, [])
      await device.check()
    })

    it('takes a large first sync', async () => {
      const user = newUser()
      await server.seed(user, 'Field', Array.from({ length: 5000 }, (_, i) => `Plant ${i} "\u{1f331}"`))
      const device = server.device(user, adapter)
      await device.syncOnce()
      await device.check()
      assert.equal((await device.tasks()).length, 5000)
    })

    it('gets a conflict when another device was quicker, and both edits survive', async () => {
      const { user, devices: [phone, laptop] } = await start(2)
      await phone.editTask('Dig', { title: 'Dig deep' })
      await laptop.editTask('Dig', { done: true })
      await laptop.editTask('Sow', { done: true })
      laptop.network.beforePush = () => phone.syncOnce()
      const before = await deviceRows(laptop.database, 'tasks')
      await assert.rejects(laptop.syncOnce(), (error) => {
        const [row] = before.filter((r) => r.title === 'Dig')
        assert.equal(error.code, 'PT409')
        assert.deepEqual(JSON.parse(error.details), [{ collection: 'tasks', id: row.id }])
        assert(error.message && error.hint)
        return true
      })
      assert.equal(lastCall(laptop, 'push_changes').status, 409)
      // All or nothing: "Sow" was in no conflict and still has to wait.
      assert.deepEqual(await server.as(user, 'SELECT FROM tasks WHERE done'), [])
      assert.deepEqual(await deviceRows(laptop.database, 'tasks'), before)

      await laptop.syncOnce()
      await phone.syncOnce()
      await laptop.syncOnce()
      await phone.check()
      await laptop.check()
      const [row] = await server.as(user, `SELECT done FROM tasks WHERE title = 'Dig deep'`)
      assert.equal(row.done, true)
    })

    it('gets a conflict also for deletes, both ways', async () => {
      const { devices: [phone, laptop] } = await start(2)
      // Deleted here, edited there: the delete is refused once, then goes through.
      await phone.editTask('Dig', { done: true })
      await laptop.deleteTask('Dig')
      laptop.network.beforePush = () => phone.syncOnce()
      await assert.rejects(laptop.syncOnce(), { code: 'PT409' })
      await laptop.syncOnce()
      // Edited here, deleted there: the edit is refused, then the row is gone here as well.
      await phone.syncOnce()
      await phone.editTask('Sow', { done: true })
      await laptop.deleteTask('Sow')
      phone.network.beforePush = () => laptop.syncOnce()
      await assert.rejects(phone.syncOnce(), { code: 'PT409' })
      await phone.sync()
      await laptop.sync()
      for (const device of [phone, laptop]) {
        assert.deepEqual(await titles(device), [])
        await device.check()
      }
    })

    it('may delete what somebody else has deleted already', async () => {
      const { devices: [phone, laptop] } = await start(2)
      await phone.deleteTask('Dig')
      await laptop.deleteTask('Dig')
      await phone.syncOnce()
      await laptop.syncOnce()
      await laptop.check()
    })

    it('does not bring a deleted row back to life', async () => {
      const { user, devices: [phone, laptop] } = await start(2)
      await phone.editTask('Dig', { done: true })
      await laptop.deleteTask('Dig')
      await phone.syncOnce()
      const heard = await complaintsDuring(() => laptop.syncOnce()) // pulls the edit, keeps the delete, pushes it
      assert.deepEqual(await titles(laptop), ['Sow'])
      assert.deepEqual(await server.as(user, 'SELECT title FROM tasks'), [{ title: 'Sow' }])
      assert.deepEqual(heard, [])
      await phone.syncOnce()
      await phone.check()
    })

    it('survives an answer to its push that was lost on the way', async () => {
      const { user, devices: [device] } = await start()
      const project = await device.project('Garden')
      await device.addTask(project, 'Water')
      await device.editTask('Dig', { done: true })
      await device.deleteTask('Sow')
      device.network.loseAnswer = true
      await assert.rejects(device.syncOnce(), /fetch failed/)
      assert.equal((await server.as(user, 'SELECT FROM tasks')).length, 2) // it had arrived
      const heard = await complaintsDuring(() => device.syncOnce())
      await device.syncOnce()
      await device.check()
      assert.deepEqual(heard, [])
      assert.deepEqual(await titles(device), ['Dig', 'Water'])
    })

    it('may push the same again', async () => {
      const { user, devices: [device] } = await start()
      await device.addTask(await device.project('Garden'), 'Water')
      await device.editTask('Dig', { done: true })
      await device.deleteTask('Sow')
      await device.syncOnce()
      const { args } = lastCall(device, 'push_changes')
      const before = await server.as(user, 'SELECT * FROM tasks ORDER BY id')
      const { timestamp } = await server.pull(user)
      const { status, text } = await server.rpc(user, 'push_changes', { ...args, last_pulled_at: timestamp })
      // The deleted one is absent, the created one exists: neither is an error. Whether a repeated row counts as a
      // change is another matter; the table is the same.
      assert.equal(status, 200, text)
      assert.deepEqual(await server.as(user, 'SELECT * FROM tasks ORDER BY id'), before)
      await device.syncOnce()
      await device.check()
    })

    it('replaces everything after a reset, and keeps what it has not pushed yet', async () => {
      const { user, project, devices: [device] } = await start()
      // Behind the trigger's back, as after a restore: only a reset can tell the device.
      await server.sql(`SET session_replication_role = replica`)
      try {
        await server.sql('ALTER TABLE tasks DISABLE TRIGGER "00_snapsync_track"')
        await server.sql(`DELETE FROM tasks WHERE title = 'Dig' AND owner_id = $1`, [user])
        await server.sql('INSERT INTO tasks (owner_id, project_id, title) VALUES ($1, $2, $3)', [user, project, 'Water'])
      } finally {
        await server.sql('ALTER TABLE tasks ENABLE ALWAYS TRIGGER "00_snapsync_track"')
        await server.sql('RESET session_replication_role')
      }
      await device.addTask(await device.project('Garden'), 'Offline')
      await device.editTask('Sow', { done: true })
      await server.sql(`SELECT snapsync.reset('tasks')`)
      await device.syncOnce()
      const { experimentalStrategy } = pulled(device)
      assert.equal(experimentalStrategy?.override?.tasks, 'replacement')
      assert.equal(experimentalStrategy.override.projects, undefined)
      assert.deepEqual(await titles(device), ['Offline', 'Sow', 'Water'])
      await device.syncOnce()
      await device.check()
      const [{ done }] = await server.as(user, `SELECT done FROM tasks WHERE title = 'Sow'`)
      assert.equal(done, true)
      await device.syncOnce()
      assert.equal(pulled(device).experimentalStrategy, undefined) // once is enough
    })

    it('does not resurrect a locally deleted row by a reset', async () => {
      const { user, devices: [device] } = await start()
      await device.deleteTask('Dig')
      await server.sql(`SELECT snapsync.reset('tasks')`)
      const heard = await complaintsDuring(() => device.syncOnce())
      assert.deepEqual(await titles(device), ['Sow'])
      assert.deepEqual(heard, [])
      assert.deepEqual(await server.as(user, 'SELECT title FROM tasks'), [{ title: 'Sow' }])
    })

    it('gets rows that were granted as created, and loses those revoked', async () => {
      const [alice, bob] = [newUser(), newUser()]
      const project = await server.seed(alice)
      const [hers, his] = [server.device(alice, adapter), server.device(bob, adapter)]
      await hers.syncOnce()
      await his.syncOnce()
      await server.sql('UPDATE projects SET owner_id = $1 WHERE id = $2', [bob, project])
      await server.sql('UPDATE tasks SET owner_id = $1 WHERE project_id = $2', [bob, project])
      const heard = await complaintsDuring(async () => { await hers.syncOnce(); await his.syncOnce() })
      assert.equal(pulled(hers).changes.tasks.deleted.length, 2)
      assert.equal(pulled(his).changes.tasks.created.length, 2)
      assert.deepEqual(heard, [])
      await hers.check()
      await his.check()
    })

    it('deletes a project with its tasks, and cascades reach it', async () => {
      const { user, devices: [phone, laptop] } = await start(2)
      await phone.database.write(async () => (await phone.project('Garden')).experimentalMarkAsDeleted())
      await phone.syncOnce()
      await laptop.syncOnce()
      assert.deepEqual(await titles(laptop), [])
      await laptop.check()
      const shed = await server.seed(user, 'Shed', ['Roof'])
      await laptop.syncOnce()
      await server.sql('DELETE FROM projects WHERE id = $1', [shed])
      await laptop.syncOnce()
      assert.deepEqual(await titles(laptop), [])
      await laptop.check()
      await phone.syncOnce()
      await phone.check()
    })

    it('with skip_echoes hears nothing of what it pushed, and all that came of it otherwise', async () => {
      const { user, project, devices: [device, other] } = await start(2)
      device.quiet = true
      const heard = () => Object.fromEntries(Object.entries(pulled(device).changes.tasks).map(([kind, rows]) => [kind, ids(rows)]))
      const nothing = { created: [], updated: [], deleted: [] }

      const water = await device.addTask(await device.project('Garden'), 'Water', { dueAt: new Date(1.7e12), labels: ['a'], views: 3 })
      const weed = await device.addTask(await device.project('Garden'), 'Weed')
      await device.editTask('Dig', { done: true })
      await device.deleteTask('Sow')
      await device.syncOnce()
      await device.syncOnce()
      assert.deepEqual(heard(), nothing)
      await device.check()

      // Another device changes a row beside it, which WatermelonDB merges.
      await other.syncOnce()
      device.network.beforePush = async () => {
        await other.editTask('Water', { views: 4 })
        await other.syncOnce()
      }
      await device.editTask('Water', { title: 'Water twice' })
      await device.sync()
      assert.deepEqual(heard(), { ...nothing, updated: [water.id] })
      await device.syncOnce()
      assert.deepEqual(heard(), nothing)
      await device.check()
      assert.deepEqual(await server.sql('SELECT title, views::int FROM tasks WHERE id = $1', [water.id]), [{ title: 'Water twice', views: 4 }])

      // The server changes what it stores.
      await server.sql(`CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;
        CREATE TRIGGER shout BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION shout()`)
      try {
        await device.editTask('Weed', { title: 'loud' })
        await device.syncOnce()
        await device.syncOnce()
        assert.deepEqual(heard(), { ...nothing, updated: [weed.id] })
        await device.check()
      } finally {
        await server.sql('DROP TRIGGER shout ON tasks; DROP FUNCTION shout()')
      }

      // A task that this device does not know goes with the project that it deletes.
      await device.addProject('Kitchen')
      await device.syncOnce()
      await device.syncOnce()
      const kitchen = await device.project('Kitchen')
      device.network.beforePush = () =>
        server.sql(`INSERT INTO tasks (owner_id, project_id, title) VALUES ($1, $2, 'Paint')`, [user, kitchen.id])
      await device.database.write(() => kitchen.markAsDeleted())
      await device.syncOnce()
      await device.syncOnce()
      assert.deepEqual(pulled(device).changes.projects.deleted, [])
      await device.check()
      assert.equal(project, (await device.project('Garden')).id)
    })

    it('with skip_echoes hears of a push whose answer was lost', async () => {
      const { devices: [device] } = await start()
      device.quiet = true
      await device.addTask(await device.project('Garden'), 'Brief')
      device.network.loseAnswer = true
      await assert.rejects(device.syncOnce())
      const brief = await device.task('Brief') // which the server never heard of, the device thinks
      await device.database.write(() => brief.destroyPermanently())
      await device.syncOnce()
      assert.deepEqual(await titles(device), ['Brief', 'Dig', 'Sow'])
      await device.check()
    })

    it('pushes a parent and its children in whatever order they stand', async () => {
      const { user, devices: [device] } = await start()
      const project = await device.addProject('Kitchen')
      for (let i = 0; i < 20; i++) await device.addTask(project, `Task ${i}`)
      await device.syncOnce()
      assert.equal((await server.as(user, `SELECT FROM tasks WHERE title LIKE 'Task%'`)).length, 20)
    })

    it('cannot push into another tenant', async () => {
      const { user: bob, project: foreign } = await start()
      const { devices: [device] } = await start()
      const [{ id }] = await server.as(bob, `SELECT id FROM tasks WHERE title = 'Dig'`)
      // A malicious device: a row of Bob's under its own name.
      await device.database.write(() => device.database.get('tasks').create((t) => {
        t._raw.id = id
        t.project.id = foreign
        Object.assign(t, { title: 'Stolen', labels: [] })
      }))
      await assert.rejects(device.syncOnce(), (error) => {
        assert.match(error.code, /^(42501|23505|PT409)$/)
        assert(!JSON.stringify([error.message, error.details, error.hint]).includes('Dig'))
        return true
      })
      assert.deepEqual(await server.as(bob, 'SELECT title FROM tasks ORDER BY title'), [{ title: 'Dig' }, { title: 'Sow' }])
    })

    if (adapter === 'sqlite') {
      it('keeps its cursor and its unpushed work over a restart', async () => {
        const { user, devices: [device] } = await start()
        await device.addTask(await device.project('Garden'), 'Water')
        device.restart()
        assert.deepEqual(await titles(device), ['Dig', 'Sow', 'Water'])
        await device.syncOnce()
        assert.deepEqual(pulled(device).changes.tasks, { created: [], updated: [], deleted: [] })
        assert.equal((await server.as(user, 'SELECT FROM tasks')).length, 3)
        assert.equal((await device.tasks(Q.where('done', true))).length, 0)
      })
    }
  })
}
