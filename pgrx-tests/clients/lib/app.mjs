// The app's WatermelonDB half: its schema, its models, and a database on one of the two adapters that run in Node.

import { createRequire } from 'node:module'

// WatermelonDB is CommonJS; some of its files have only a default export, which `import` cannot reach directly.
const require = createRequire(import.meta.url)
const { Database, Model, Q, appSchema, tableSchema } = require('@nozbe/watermelondb')
const { children, date, field, immutableRelation, json, readonly } = require('@nozbe/watermelondb/decorators')
const { default: SQLiteAdapter } = require('@nozbe/watermelondb/adapters/sqlite')
const { default: LokiJSAdapter } = require('@nozbe/watermelondb/adapters/lokijs')
const { default: sqliteConnections } = require('@nozbe/watermelondb/adapters/sqlite/sqlite-node/DatabaseBridge')
const { setGenerator } = require('@nozbe/watermelondb/utils/common/randomId')
const { default: logger } = require('@nozbe/watermelondb/utils/common/logger')

export { Q, setGenerator }

// Everything that WatermelonDB complains about, instead of the console. Its chatter (log, debug) is dropped.
export const complaints = []
for (const level of ['warn', 'error']) {
  logger[level] = (...args) => complaints.push(`${level}: ${args.map((a) => a?.message ?? a).join(' ')}`)
}
logger.log = logger.debug = () => {}

export const schema = appSchema({
  version: 1,
  tables: [
    tableSchema({
      name: 'projects',
      columns: [
        { name: 'name', type: 'string' },
        { name: 'created_at', type: 'number' },
      ],
    }),
    tableSchema({
      name: 'tasks',
      columns: [
        { name: 'project_id', type: 'string', isIndexed: true },
        { name: 'title', type: 'string' },
        { name: 'done', type: 'boolean' },
        { name: 'due_at', type: 'number', isOptional: true },
        { name: 'labels', type: 'string' },
        { name: 'views', type: 'number' },
      ],
    }),
  ],
})

// Decorators without a compiler: { property: [decorator, ...] }, the outermost first.
function decorate(model, properties) {
  for (const [name, decorators] of Object.entries(properties)) {
    const descriptor = decorators.reduceRight(
      (d, decorator) => decorator(model.prototype, name, d), { initializer: null })
    Object.defineProperty(model.prototype, name, descriptor)
  }
}

export class Project extends Model {
  static table = 'projects'
  static associations = { tasks: { type: 'has_many', foreignKey: 'project_id' } }
}
decorate(Project, { name: [field('name')], createdAt: [readonly, date('created_at')], tasks: [children('tasks')] })

export class Task extends Model {
  static table = 'tasks'
  static associations = { projects: { type: 'belongs_to', key: 'project_id' } }
}
decorate(Task, {
  project: [immutableRelation('projects', 'project_id')],
  title: [field('title')],
  done: [field('done')],
  dueAt: [date('due_at')],
  labels: [json('labels', (value) => (Array.isArray(value) ? value : []))],
  views: [field('views')],
})

// `file` is a path for SQLite; LokiJS stays in memory, for Node has no IndexedDB.
export function openDatabase({ adapter, file, schema: itsSchema = schema, migrations, modelClasses = [Project, Task] }) {
  const options = { schema: itsSchema, ...(migrations && { migrations }) }
  return new Database({
    modelClasses,
    adapter: adapter === 'sqlite'
      ? new SQLiteAdapter({ ...options, dbName: file })
      : new LokiJSAdapter({
        ...options, dbName: file, useWebWorker: false, useIncrementalIndexedDB: true,
        extraLokiOptions: { autosave: false }, // its timer would keep the process alive
      }),
  })
}

// Ends a SQLite database as the end of its app would: what is not in the file is gone.
export function closeDatabase(database) {
  const { _tag: tag } = database.adapter.underlyingAdapter
  sqliteConnections.connections[tag]?.driver.database.instance.close()
}
