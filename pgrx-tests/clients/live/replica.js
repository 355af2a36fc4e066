// What one device has: the rows that it was sent, and its own changes until the server has them. It pulls and pushes as docs/clients.md
// says. Stored as one text in localStorage, which is good for some hundreds of rows; an app with more takes IndexedDB or SQLite.

const COLLECTIONS = ['lists', 'members', 'todos']

// The id that the server calls a row by: its key, whose parts are joined with a dot. (In uuids there is nothing to encode.)
export const idOf = { lists: (row) => row.id, members: (row) => `${row.list_id}.${row.user_id}`, todos: (row) => row.id }

const each = (make) => Object.fromEntries(COLLECTIONS.map((name) => [name, make(name)]))

export class Replica extends EventTarget {
  // Rows by collection and id; and what is to be pushed of them: { kind, columns }, with the columns that changed here.
  #state = { clientId: crypto.randomUUID(), cursor: null, rows: each(() => ({})), unpushed: each(() => ({})) }
  #key
  #call
  #syncing = false
  #again = false

  // `call(name, arguments)` is an RPC.
  constructor(name, call) {
    super()
    this.#key = `snapsync ${name}`
    this.#call = call
    Object.assign(this.#state, JSON.parse(localStorage.getItem(this.#key)))
  }

  rows(collection) {
    return Object.values(this.#state.rows[collection])
  }

  get unpushed() {
    return COLLECTIONS.reduce((n, name) => n + Object.keys(this.#state.unpushed[name]).length, 0)
  }

  // Something is new: `come` has the ids of rows that others have changed.
  #changed(come = []) {
    localStorage.setItem(this.#key, JSON.stringify(this.#state))
    this.dispatchEvent(new CustomEvent('change', { detail: { come } }))
  }

  create(collection, row) {
    this.#note(collection, idOf[collection](row), 'created', row)
  }

  update(collection, id, columns) {
    this.#note(collection, id, 'updated', columns)
  }

  delete(collection, id) {
    this.#note(collection, id, 'deleted', {})
  }

  #note(collection, id, kind, columns) {
    const { rows, unpushed } = this.#state
    if (kind === 'deleted') delete rows[collection][id]
    else rows[collection][id] = { ...rows[collection][id], ...columns }
    const before = unpushed[collection][id]
    // What the server has not seen stays created. A new object each time: so a push knows what has changed since it began.
    const stays = kind === 'updated' && before?.kind === 'created'
    unpushed[collection][id] = { kind: stays ? 'created' : kind, columns: { ...before?.columns, ...columns } }
    this.#changed()
    this.sync()
  }

  // Pulls, and pushes until nothing is left. Whoever calls meanwhile gets another round.
  async sync() {
    this.#again = true
    if (this.#syncing) return
    this.#syncing = true
    try {
      while (this.#again) {
        this.#again = false
        await this.#pull()
        if (this.unpushed) await this.#push()
      }
      this.dispatchEvent(new Event('synced'))
    } catch (error) {
      this.dispatchEvent(new CustomEvent('failed', { detail: error }))
    } finally {
      this.#syncing = false
    }
  }

  async #pull() {
    const { clientId, cursor, rows, unpushed } = this.#state
    const answer = await this.#call('pull_changes', { collections: COLLECTIONS, last_pulled_at: cursor, client_id: clientId })
    const come = []
    for (const [name, { created, updated, deleted }] of Object.entries(answer.changes)) {
      if (cursor === null || answer.experimentalStrategy?.override[name] === 'replacement') {
        for (const id of Object.keys(rows[name])) if (!unpushed[name][id]) delete rows[name][id]
      }
      for (const row of [...created, ...updated]) {
        const id = idOf[name](row)
        const own = unpushed[name][id]
        if (own?.kind === 'deleted') continue
        const now = { ...row, ...own?.columns } // the columns that were changed here stay
        if (JSON.stringify(now) !== JSON.stringify(rows[name][id])) come.push(id)
        rows[name][id] = now
      }
      for (const id of deleted) {
        delete rows[name][id]
        delete unpushed[name][id] // it is gone, or out of sight: there is nothing to change any more
      }
    }
    this.#state.cursor = answer.timestamp
    this.#changed(come)
  }

  async #push() {
    const { clientId, cursor, rows, unpushed } = this.#state
    const sent = each((name) => ({ ...unpushed[name] }))
    const of = (name, kind) => Object.entries(sent[name]).filter(([, change]) => change.kind === kind)
    const changes = each((name) => ({
      created: of(name, 'created').map(([, { columns }]) => columns),
      updated: of(name, 'updated').map(([id, { columns }]) => ({ ...columns, id })),
      deleted: of(name, 'deleted').map(([id]) => id),
    }))
    const { rejected = [] } = await this.#call('push_changes', {
      changes, last_pulled_at: cursor, client_id: clientId, on_rejected: 'report',
    })
    const refused = new Map(rejected.map(({ collection, id, code }) => [`${collection} ${id}`, code]))
    for (const name of COLLECTIONS) {
      for (const [id, change] of Object.entries(sent[name])) {
        const code = refused.get(`${name} ${id}`)
        // Somebody was quicker: the next round pulls that, and pushes once more what was changed here.
        if (code === 'PT409') this.#again = true
        else if (code) {
          // The server will not take it. What it has instead comes with a first pull.
          this.dispatchEvent(new CustomEvent('refused', { detail: rejected.find((record) => record.id === id) }))
          delete unpushed[name][id]
          delete rows[name][id]
          this.#state.cursor = null
          this.#again = true
        } else if (unpushed[name][id] === change) delete unpushed[name][id]
        else if (unpushed[name][id]?.kind === 'created' && change.kind === 'created') {
          unpushed[name][id] = { ...unpushed[name][id], kind: 'updated' }
        }
      }
    }
    this.#changed()
  }
}
