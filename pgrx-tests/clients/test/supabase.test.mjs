// The unmodified supabase-js: the README's snippet, and what an app sees of errors.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { connect } from '../lib/client.mjs'
import { assertReplica } from '../lib/contents.mjs'
import { newUser, testServer } from '../lib/testing.mjs'
import { pullInPages } from '../snippets/pages.mjs'
import { pull, push } from '../snippets/supabase.mjs'
import { pullView } from '../snippets/views.mjs'

const server = testServer('supabase')
const empty = () => ({ clientId: randomUUID(), cursor: null, projects: new Map(), tasks: new Map() })

describe('supabase-js', () => {
  it('keeps a replica with the two functions of the README', async () => {
    const user = newUser()
    const project = await server.seed(user)
    const supabase = connect(server, user)
    const [mine, other] = [empty(), empty()]
    await pull(supabase, mine)
    await assertReplica(server, user, mine)
    assert.equal(mine.tasks.size, 2)

    const id = newUser()
    const [dig, sow] = [...mine.tasks.values()].sort((a, b) => (a.title < b.title ? -1 : 1))
    await push(supabase, mine, {
      tasks: {
        created: [{ id, project_id: project, title: 'Water', labels: [{ deep: [1] }], due_at: '2026-02-03T04:05:06.789Z' }],
        updated: [{ id: dig.id, done: true }], // absent columns keep their value
        deleted: [sow.id],
      },
    })
    for (const replica of [mine, other]) {
      await pull(supabase, replica)
      await assertReplica(server, user, replica)
    }
    assert.equal(mine.tasks.get(dig.id).title, 'Dig')
    assert.deepEqual(mine.tasks.get(id).labels, [{ deep: [1] }])
    assert(!mine.tasks.has(sow.id))

    await server.sql(`SELECT snapsync.reset('tasks')`)
    mine.tasks.set('stale', { id: 'stale' })
    await pull(supabase, mine)
    await assertReplica(server, user, mine)
  })

  it('keeps a replica page by page, and goes on where it was killed', async () => {
    const user = newUser()
    const project = await server.seed(user)
    await server.sql(
      `INSERT INTO tasks (owner_id, project_id, title) SELECT $1, $2, 'Task ' || n FROM generate_series(1, 20) AS n`, [user, project])
    // The snippet with smaller pages.
    const all = connect(server, user)
    const supabase = { rpc: (name, args) => all.rpc(name, { ...args, page_size: 3 }) }
    let [kept, saved, killing] = [{ ...empty(), next: null }, 0, true]
    const save = async (replica) => {
      kept = structuredClone(replica)
      if (++saved % 3 === 0 && killing) throw new Error('killed')
    }
    const goOn = async () => {
      for (;;) {
        try {
          return await pullInPages(supabase, structuredClone(kept), save)
        } catch (error) {
          if (error.message !== 'killed') throw error
          await server.sql(`DELETE FROM tasks WHERE id = $1`, [[...kept.tasks.keys()][0]])
          await server.sql(`UPDATE tasks SET title = title || '.' WHERE owner_id = $1`, [user])
        }
      }
    }
    const goOnToTheEnd = async () => {
      killing = true
      await goOn()
      killing = false
      await goOn() // what changed on the way
      await assertReplica(server, user, kept)
    }
    await goOnToTheEnd()
    assert(saved > 7)
    await server.sql(`SELECT snapsync.reset('tasks')`)
    kept.tasks.set('stale', { id: 'stale' })
    await goOnToTheEnd()
  })

  it('keeps views of some rows, which grow and shrink', async () => {
    const [user, stranger] = [newUser(), newUser()]
    await server.seed(user)
    await server.seed(stranger)
    const ids = async (of) => (await server.sql(`SELECT id FROM tasks WHERE owner_id = $1 ORDER BY title`, [of])).map(({ id }) => id)
    const [[dig, sow], [foreign]] = [await ids(user), await ids(stranger)]
    const supabase = connect(server, user)
    const views = [0, 1].map(() => ({ cursor: null, filter: null, rows: new Map() }))
    const shows = async (view, asked, shown) => {
      await pullView(supabase, 'tasks', view, asked && { tasks: { id: asked } }, async () => {})
      assert.deepEqual([...view.rows.keys()].sort(), [...shown].sort())
    }
    await shows(views[0], [dig, foreign, randomUUID()], [dig])
    await shows(views[1], null, [dig, sow])
    await shows(views[0], [sow, foreign], [sow])
    await server.sql(`UPDATE tasks SET title = 'Reap' WHERE id = ANY ($1)`, [[sow, foreign]])
    await shows(views[0], [dig, sow], [dig, sow])
    assert.equal(views[0].rows.get(sow).title, 'Reap')
    await server.sql('DELETE FROM tasks WHERE id = $1', [sow])
    await shows(views[0], [dig, sow], [dig])
    await shows(views[1], [sow], [])
    await shows(views[0], null, [dig])
  })

  it('pushes twice without a pull between, and sends a push again whose answer was lost', async () => {
    const user = newUser()
    await server.seed(user)
    const [supabase, replica] = [connect(server, user), empty()]
    await pull(supabase, replica)
    const [task] = replica.tasks.values()
    for (const title of ['Dig deep', 'Dig deeper', 'Dig deeper']) {
      await push(supabase, replica, { tasks: { updated: [{ id: task.id, title }] } })
    }
    await assert.rejects(push(supabase, { ...replica, clientId: undefined }, { tasks: { updated: [{ id: task.id, title: 'No' }] } }),
      { code: 'PT409' })
    await pull(supabase, replica)
    await assertReplica(server, user, replica)
    assert.equal(replica.tasks.get(task.id).title, 'Dig deeper')
  })

  it('gets a conflict as an error with code, details and hint', async () => {
    const user = newUser()
    await server.seed(user)
    const [supabase, replica] = [connect(server, user), empty()]
    await pull(supabase, replica)
    const [task] = replica.tasks.values()
    await server.sql('UPDATE tasks SET views = 1 WHERE id = $1', [task.id])
    const { data, error, status } = await supabase.rpc('push_changes', {
      changes: { tasks: { created: [], updated: [{ id: task.id, done: true }], deleted: [] } },
      last_pulled_at: replica.cursor,
    })
    assert.equal(data, null)
    assert.equal(status, 409)
    assert.equal(error.code, 'PT409')
    assert.deepEqual(JSON.parse(error.details), [{ collection: 'tasks', id: task.id }])
    assert(error.message && error.hint)
    // And thrown, as the snippet does.
    await assert.rejects(push(supabase, replica, { tasks: { deleted: [task.id] } }), { code: 'PT409' })
    await pull(supabase, replica)
    await push(supabase, replica, { tasks: { deleted: [task.id] } })
    await pull(supabase, replica)
    await assertReplica(server, user, replica)
  })

  it('pulls by GET too', async () => {
    const user = newUser()
    await server.seed(user)
    const { data, error } = await connect(server, user).rpc('pull_changes', { collections: ['projects', 'tasks'] }, { get: true })
    assert.equal(error, null)
    assert.equal(data.changes.tasks.created.length, 2)
  })

  it('pulls as nobody only what nobody may see', async () => {
    await server.seed(newUser())
    const { status, error } = await connect({ ...server, token: () => undefined }, null)
      .rpc('pull_changes', { collections: ['tasks'] })
    assert.equal(status, 401) // anon has no SELECT on tasks
    assert.equal(error.code, '42501')
  })

  it('says what is wrong with a request', async () => {
    const supabase = connect(server, newUser())
    const cases = [
      ['pull_changes', { collections: ['nope'] }, 404, '42P01'],
      ['pull_changes', { collections: ['tasks'], last_pulled_at: 'yesterday' }, 400, '22023'],
      ['pull_changes', { collections: ['tasks'], dialect: 'klingon' }, 400, '22023'],
      ['push_changes', { changes: { nope: { created: [] } } }, 404, '42P01'],
      ['push_changes', { changes: { tasks: { created: 'x' } } }, 400, '22023'],
      ['push_changes', { changes: [] }, 400, '22023'],
      ['push_changes', { changes: { tasks: { updated: [{ title: 'no id' }] } } }, 400, '22023'],
      ['push_changes', { changes: { tasks: { created: [{ id: newUser(), colour: 'red' }] } } }, 400, '42703'],
      ['push_changes', { changes: { tasks: { created: [{ id: 'not a uuid', title: 'x' }] } } }, 400, '22P02'],
      ['push_changes', { changes: { projects: { created: [{ id: newUser(), name: 'x', owner_id: newUser() }] } } }, 400, '42703'],
    ]
    for (const [name, args, status, code] of cases) {
      const answer = await supabase.rpc(name, args)
      const told = `${name} ${JSON.stringify(args)} -> ${answer.status} ${JSON.stringify(answer.error)}`
      assert.deepEqual([answer.status, answer.error?.code], [status, code], told)
      assert.match(answer.error.message, /^[a-z"]/, told)
      assert(answer.error.hint, told)
    }
    assert.deepEqual(await server.sql(`SELECT FROM projects WHERE name = 'x'`), [])
  })
})

describe('supabase-js and a table whose key is an integer', () => {
  const server = testServer('supabase_integer', `
    SELECT snapsync.disable('tasks');
    CREATE TABLE notes (id integer PRIMARY KEY, title text);
    GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO authenticated;
    SELECT snapsync.enable('notes', name => 'tasks');
    INSERT INTO notes VALUES (1, 'one'), (2, 'two');`)

  it('removes rows that were deleted, though their ids come as text', async () => {
    const [supabase, replica] = [connect(server, newUser()), empty()]
    await pull(supabase, replica)
    assert.deepEqual([...replica.tasks], [['1', { id: 1, title: 'one' }], ['2', { id: 2, title: 'two' }]])
    await server.sql('DELETE FROM notes WHERE id = 1')
    await server.sql(`UPDATE notes SET title = 'second' WHERE id = 2`)
    await pull(supabase, replica)
    assert.deepEqual([...replica.tasks], [['2', { id: 2, title: 'second' }]])
    await push(supabase, replica, { tasks: { deleted: ['2'] } })
    await pull(supabase, replica)
    assert.deepEqual([...replica.tasks], [])
  })
})
