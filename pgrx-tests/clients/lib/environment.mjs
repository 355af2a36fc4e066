// Imported for its effects, before anything else.

// supabase-js wants a WebSocket for its realtime half, which nobody here uses. Node has one since version 22.
globalThis.WebSocket ??= class WebSocket {}

export function databaseUrl() {
  const url = process.env.DATABASE_URL
  if (url) return url
  console.error('DATABASE_URL is not set. Give the postgresql:// URI of a superuser on a throwaway cluster that has')
  console.error('snapsync installed; `make demo` and `make test` in the top directory start one and set it.')
  process.exit(2)
}
