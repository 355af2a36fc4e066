// A WatermelonDB device of one user: its database, its network, and the app's few verbs.

import assert from 'node:assert/strict'
import { quietSync } from '../snippets/watermelondb-quiet.mjs'
import { sync } from '../snippets/watermelondb.mjs'
import { closeDatabase, openDatabase, Q } from './app.mjs'
import { connect, Network, summary } from './client.mjs'
import { assertConverged } from './contents.mjs'

export class Device {
  network = new Network()
  quiet = false // does not hear of its own pushes

  // `tell(who, what)` hears what each sync did.
  constructor(server, user, name, adapter, file, tell = () => {}) {
    Object.assign(this, { server, user, name, adapter, file, tell })
    this.supabase = connect(server, user, this.network)
    this.open()
  }

  open() {
    this.database = openDatabase({ adapter: this.adapter, file: this.file })
  }

  restart() {
    closeDatabase(this.database)
    this.open()
  }

  tasks(...clauses) {
    return this.database.get('tasks').query(...clauses).fetch()
  }

  async task(title) {
    const [task] = await this.tasks(Q.where('title', title))
    assert(task, `${this.name} has no task "${title}"`)
    return task
  }

  async project(name) {
    const [project] = await this.database.get('projects').query(Q.where('name', name)).fetch()
    assert(project, `${this.name} has no project "${name}"`)
    return project
  }

  addProject(name) {
    return this.database.write(() => this.database.get('projects').create((p) => { p.name = name }))
  }

  addTask(project, title, more = {}) {
    return this.database.write(() => this.database.get('tasks').create((t) => {
      t.project.set(project)
      Object.assign(t, { title, labels: [], ...more })
    }))
  }

  async editTask(title, change) {
    const task = await this.task(title)
    await this.database.write(() => task.update((t) => Object.assign(t, change)))
  }

  async deleteTask(title) {
    const task = await this.task(title)
    await this.database.write(() => task.markAsDeleted())
  }

  // One synchronize().
  async syncOnce() {
    const before = this.network.calls.length
    try {
      await (this.quiet ? quietSync : sync)(this.database, this.supabase, this.name)
    } finally {
      const calls = this.network.calls.slice(before)
      this.tell(this.name, calls.length ? summary(calls) : 'no network: sync failed, everything stays on the device')
    }
  }

  // What an app does: a conflict means that somebody was quicker, so pull (which resolves it) and push once more.
  async sync() {
    try {
      await this.syncOnce()
    } catch (error) {
      if (error.code !== 'PT409') throw error
      await this.syncOnce()
    }
  }

  async contents() {
    const projects = await this.database.get('projects').query().fetch()
    return [projects, await this.tasks()]
  }

  check() {
    return assertConverged(this.server, this.user, this.database, this.name)
  }
}
