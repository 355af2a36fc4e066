// A device with the Drift/Supabase demo client, simulated: what it sends, when, and what it does with the answers are the client's rules,
// one by one. So are its traps: it takes a row only if that is later than its own, by `updated_at`; it does not look at `deleted` and
// `timestamp`; it finds its own changes by its own clock; and it fails as a whole on a null where its column has none.

import { randomUUID } from 'node:crypto'
import { Network, connect } from './client.mjs'

const MINUTE = 60e6
const text = { read: (v) => { if (typeof v !== 'string') throw new TypeError(`${v} is no String`); return v } }
const time = { read: (v) => (typeof v === 'number' ? { micros: v * 1000, utc: false } : null) }
const orNull = (type) => ({ ...type, nullable: true })

const COLUMNS = {
  'public.task': { id: text, user_id: text, project_id: text, name: text, note: orNull(text), created_at: time, updated_at: time, deleted_at: orNull(time) },
  'public.project': { id: text, user_id: text, name: text, created_at: time, updated_at: time, deleted_at: orNull(time) },
  'public.doc_updates': { id: text, user_id: text, task_id: text, data_b64: text, created_at: time, updated_at: time, deleted_at: orNull(time) },
}
export const TABLES = Object.keys(COLUMNS)

const pad = (n, digits) => String(n).padStart(digits, '0')

export class DriftDevice {
  tables = Object.fromEntries(TABLES.map((table) => [table, new Map()]))
  lastPulledAt = null
  instanceId = randomUUID()
  failures = [] // of pushes, which the client only logs
  beforePush = null

  // `clock`: how far it is from the true one; `zone`: minutes east of UTC; `web`: JavaScript's times end at milliseconds; `local`: an app that
  // forgets toUtc().
  constructor(server, user, { clock = 0, zone = 0, web = false, local = false, now = () => Date.now() * 1000 } = {}) {
    Object.assign(this, { server, user, clock, zone, web, local, trueNow: now, network: new Network() })
    this.supabase = connect(server, user, this.network)
  }

  // Dart's DateTime: microseconds since 1970, and whether it is one in UTC.
  now() {
    const micros = this.trueNow() + this.clock
    return { micros: this.web ? Math.floor(micros / 1000) * 1000 : micros, utc: false }
  }

  utc({ micros }) {
    return { micros, utc: true }
  }

  format({ micros, utc }) {
    const shown = micros + (utc ? 0 : this.zone * MINUTE)
    const below = ((shown % 1000) + 1000) % 1000
    const iso = new Date(Math.floor(shown / 1000)).toISOString().slice(0, -1)
    return iso + (below ? pad(below, 3) : '') + (utc ? 'Z' : '')
  }

  parse(string) {
    const [, day, clock, fraction = '', offset] =
      /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,6})?(Z|[+-]\d\d(?::?\d\d)?)?$/.exec(string) ?? []
    if (!day) throw new SyntaxError(`FormatException: ${string}`)
    let micros = Date.parse(`${day}T${clock}Z`) * 1000 + Number(fraction.slice(1).padEnd(6, '0'))
    if (this.web) micros = Math.floor(micros / 1000) * 1000
    if (!offset) return { micros: micros - this.zone * MINUTE, utc: false }
    const [, sign, hours, minutes = 0] = /^([+-])(\d\d):?(\d\d)?$/.exec(offset) ?? [null, '+', 0, 0]
    return { micros: micros - Number(`${sign}1`) * (Number(hours) * 60 + Number(minutes)) * MINUTE, utc: true }
  }

  // --- what the app does

  stamp() {
    return this.local ? this.now() : this.utc(this.now())
  }

  add(table, values) {
    const at = this.stamp()
    const id = randomUUID()
    this.tables[table].set(id, { id, user_id: this.user, created_at: at, updated_at: at, deleted_at: null, ...values, isRemote: false })
    return id
  }

  edit(table, id, values) {
    const row = this.tables[table].get(id)
    Object.assign(row, values, { updated_at: this.stamp(), isRemote: false })
    return row
  }

  // (It leaves updated_at as it was.)
  remove(table, id) {
    return Object.assign(this.tables[table].get(id), { deleted_at: this.stamp(), isRemote: false })
  }

  live(table) {
    return [...this.tables[table].values()].filter((row) => !row.deleted_at)
  }

  // --- the sync manager

  fromJson(table, record) {
    const row = { isRemote: true }
    for (const [name, type] of Object.entries(COLUMNS[table])) {
      const value = record[name]
      if (value == null && !type.nullable) throw new TypeError(`${table}.${name}: type 'Null' is not a subtype`)
      row[name] = value == null ? null : type.read(value) ?? this.parse(value)
    }
    return row
  }

  // All of it, or nothing.
  apply(changes) {
    const written = []
    for (const table of TABLES) {
      const { created, updated } = changes[table]
      const seen = new Map()
      for (const record of [...created, ...updated]) {
        const existing = seen.get(record.id) ?? this.tables[table].get(record.id)
        if (existing && !(this.parse(record.updated_at).micros > existing.updated_at.micros)) continue
        seen.set(record.id, this.fromJson(table, record))
      }
      written.push([table, seen])
    }
    for (const [table, rows] of written) for (const [id, row] of rows) this.tables[table].set(id, row)
  }

  toJson({ isRemote, ...row }) {
    const json = Object.entries(row).map(([name, value]) => [name, value?.micros === undefined ? value : this.format(value)])
    return { ...Object.fromEntries(json), instance_id: this.instanceId }
  }

  // SQLite compares texts of times by their julian days, which end at milliseconds.
  getChanges(since) {
    const millis = (t) => Math.round(t.micros / 1000)
    const from = millis(since)
    const changes = {}
    for (const table of TABLES) {
      const own = [...this.tables[table].values()].filter((row) => !row.isRemote)
      const created = own.filter((row) => millis(row.created_at) >= from)
      const updated = own.filter((row) => millis(row.updated_at) >= from && millis(row.created_at) < from)
      const deleted = own.filter((row) => row.deleted_at && millis(row.deleted_at) >= from)
      changes[table] = { created, updated, deleted }
      for (const kind of Object.keys(changes[table])) changes[table][kind] = changes[table][kind].map((row) => ({ ...row }))
    }
    return changes
  }

  // A push that fails, or has no answer in time, leaves the cursor where it is.
  async synchronize() {
    const lastPulledAt = this.lastPulledAt ?? this.parse('2000-01-01T00:00:00.000')
    const begun = { at: this.now(), changes: {} }
    this.begun = begun
    const { data } = await this.supabase
      .rpc('pull_changes', { collections: TABLES, last_pulled_at: this.format(this.utc(lastPulledAt)) }).throwOnError()
    this.apply(data.changes)
    begun.changes = this.getChanges(this.lastPulledAt ?? lastPulledAt)
    const isEmpty = Object.values(begun.changes).every((kinds) => Object.values(kinds).every((rows) => rows.length === 0))
    if (isEmpty) {
      this.lastPulledAt = { ...begun.at, micros: begun.at.micros - 2 * MINUTE }
      return 'pulled'
    }
    await this.beforePush?.()
    try {
      const each = (of, map) => Object.fromEntries(Object.entries(of).map(([name, value]) => [name, map(value)]))
      const _changes = each(begun.changes, (kinds) => each(kinds, (rows) => rows.map((row) => this.toJson(row))))
      const { data: answer } = await this.supabase
        .rpc('push_changes', { _changes, last_pulled_at: this.format(begun.at) }).throwOnError()
      this.lastPulledAt = this.parse(answer)
      return 'pushed'
    } catch (error) {
      this.failures.push(error)
      return 'failed'
    }
  }

  // All that the device holds is so much older: for a test that lets time go by.
  age(micros) {
    const older = (t) => t && { ...t, micros: t.micros - micros }
    const { at, changes } = this.begun ?? {}
    const held = [...TABLES.flatMap((table) => [...this.tables[table].values()]), ...Object.values(changes ?? {}).flatMap((kinds) => Object.values(kinds).flat())]
    for (const row of held) for (const name of ['created_at', 'updated_at', 'deleted_at']) row[name] = older(row[name])
    this.lastPulledAt = older(this.lastPulledAt)
    if (at) this.begun.at = older(at)
  }
}
