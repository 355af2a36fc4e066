// PostgREST's /rpc in miniature, for machines where the real one cannot be had: what reaches the database, and what
// comes back over HTTP, is what PostgREST sends and answers. So an unmodified supabase-js (or curl) works against it.
//   DATABASE_URL=postgresql://... node rpc.mjs      serves until stopped, and prints its address and two tokens

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

export const SECRET = 'a secret for a throwaway server on loopback'

const JSON_TYPE = 'application/json; charset=utf-8'

const base64url = (data) => Buffer.from(data).toString('base64url')
const sign = (text, secret) => createHmac('sha256', secret).update(text).digest()

export function token(claims, secret = SECRET) {
  const text = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`
  return `${text}.${base64url(sign(text, secret))}`
}

export class HttpError extends Error {
  constructor(status, code, message, details = null, hint = null) {
    super(message)
    Object.assign(this, { status, code, details, hint })
  }
}

export function claimsOf(authorization, secret) {
  if (!authorization) return { role: 'anon' }
  // Only HS256 is ever tried, whatever the token's head claims.
  const [, head, body, signature] = /^bearer ([\w-]+)\.([\w-]+)\.([\w-]+)$/i.exec(authorization) ?? []
  const refuse = (why) => { throw new HttpError(401, 'PGRST301', why) }
  if (!signature) refuse('expected a JWT as bearer token')
  const [given, wanted] = [Buffer.from(signature, 'base64url'), sign(`${head}.${body}`, secret)]
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) refuse('JWT signature is wrong')
  const claims = JSON.parse(Buffer.from(body, 'base64url'))
  if (claims.exp && claims.exp * 1000 < Date.now()) refuse('JWT expired')
  return { role: 'anon', ...claims }
}

// PostgREST's table of statuses by SQLSTATE; the first prefix that fits counts.
const STATUSES = [
  ['08', 503], ['0L', 403], ['0P', 403], ['23503', 409], ['23505', 409], ['25006', 405], ['28', 403], ['42883', 404],
  ['42P01', 404], ['42P17', 500], ['P0001', 400], ['53400', 500], ['53', 503], ['57P01', 503],
  ...['09', '25', '2D', '38', '39', '3B', '40', '54', '55', '57', '58', 'F0', 'HV', 'P0', 'XX'].map((c) => [c, 500]),
]

function httpError(error, role) {
  if (error instanceof HttpError) return error
  const code = error.code ?? ''
  if (!/^[0-9A-Z]{5}$/.test(code)) return new HttpError(503, 'PGRST000', error.message)
  let status
  if (/^PT\d{3}$/.test(code)) status = Number(code.slice(2))
  else if (code === '42501') status = role === 'anon' ? 401 : 403
  else status = STATUSES.find(([prefix]) => code.startsWith(prefix))?.[1] ?? 400
  return new HttpError(status, code, error.message, error.detail ?? null, error.hint ?? null)
}

// Overloads are told apart by the names of the arguments, as PostgREST does.
async function findFunction(db, name, given) {
  const { rows } = await db.query(
    `SELECT provolatile <> 'v' AS read_only, prorettype = 'void'::regtype AS void,
            (SELECT format('%I.%I', typnamespace::regnamespace::text, typname) FROM pg_type
              WHERE oid = prorettype AND typbasetype <> 0 AND typname = '*/*') AS handler,
            ARRAY(SELECT coalesce(n, '') FROM unnest(proargnames) AS n) AS names,
            ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) AS t) AS types, pronargdefaults AS defaults
       FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname = $1 AND prokind = 'f' AND NOT proretset`,
    [name])
  const found = rows.filter(({ names, types, defaults }) => {
    const inputs = names.slice(0, types.length)
    return given.every((n) => inputs.includes(n)) &&
      inputs.slice(0, types.length - defaults).every((n) => given.includes(n))
  })
  if (found.length === 1) return found[0]
  if (found.length > 1) throw new HttpError(300, 'PGRST203', `could not choose between functions public.${name}`)
  throw new HttpError(404, 'PGRST202', `could not find public.${name}(${given.join(', ')})`)
}

// serve({ databaseUrl }) -> { url, close() }. Connects as the role `authenticator`, as PostgREST does.
// `other(request, response, url)` is asked first, and says whether it has taken the request.
export async function serve({ databaseUrl, secret = SECRET, port = 0, other = async () => false }) {
  const { host, port: pgPort, database } = new pg.Client(databaseUrl).connectionParameters
  const pool = new pg.Pool({
    host, port: pgPort, database, user: 'authenticator', password: 'authenticator', max: 8,
  })
  pool.on('error', () => {}) // an idle connection went away: the next request says so

  async function call(request, url, body) {
    const claims = claimsOf(request.headers.authorization, secret)
    const name = /^\/rest\/v1\/rpc\/(\w+)$/.exec(url.pathname)?.[1]
    if (!name) throw new HttpError(404, 'PGRST125', 'invalid path: only /rest/v1/rpc/<function> is served')
    if (!['GET', 'POST'].includes(request.method)) throw new HttpError(405, 'PGRST117', 'unsupported method')
    const post = request.method === 'POST'

    let given
    try {
      given = post ? Object.keys(JSON.parse(body || '{}')) : [...url.searchParams.keys()]
    } catch {
      throw new HttpError(400, 'PGRST102', 'empty or invalid json')
    }

    const db = await pool.connect()
    let broken
    try {
      const fn = await findFunction(db, name, given)
      if (!post && !fn.read_only) throw new HttpError(405, 'PGRST101', 'only volatile functions need POST')
      const typeOf = (n) => fn.types[fn.names.indexOf(n)]
      const quoted = (n) => pg.escapeIdentifier(n)
      // A POST body goes to the database untouched: its numbers never become JavaScript numbers.
      const arg = (n, i) => post ? `_.${quoted(n)}` : `$${i + 1}::${typeOf(n)}`
      const record = post && given.length
        ? `json_to_record($1::json) AS _(${given.map((n) => `${quoted(n)} ${typeOf(n)}`).join(', ')}),` : ''
      // A domain that is named as a media type is the answer itself (from PostgREST 12 on), of octets unless the function says other.
      const media = fn.handler && !/application\/vnd\.pgrst\./.test(request.headers.accept ?? '')
      const value = media ? `${fn.handler}(call.value)` : "coalesce(json_agg(call.value) -> 0, 'null')"
      const sql = `SELECT ${value}::text AS body, nullif(current_setting('response.headers', true), '') AS headers FROM ${record}
        LATERAL (SELECT public.${quoted(name)}(${given.map((n, i) => `${quoted(n)} => ${arg(n, i)}`).join(', ')})
                 AS value) AS call`

      await db.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${fn.read_only ? 'READ ONLY' : 'READ WRITE'}`)
      await db.query(
        `SELECT set_config('search_path', 'public', true), set_config('role', $1, true),
                set_config('request.jwt.claims', $2, true), set_config('request.method', $3, true),
                set_config('request.path', $4, true), set_config('request.headers', $5, true)`,
        [claims.role, JSON.stringify(claims), request.method, url.pathname, JSON.stringify(request.headers)])
      const { rows } = await db.query(sql, post ? (record ? [body] : []) : given.map((n) => url.searchParams.get(n)))
      await db.query('COMMIT')
      if (fn.void) return { status: 204, body: '' }
      const type = { 'content-type': media ? 'application/octet-stream' : JSON_TYPE }
      const lower = (header) => Object.fromEntries(Object.entries(header).map(([name, text]) => [name.toLowerCase(), text]))
      const headers = Object.assign(type, ...JSON.parse(rows[0].headers ?? '[]').map(lower))
      return { status: 200, body: rows[0].body, headers }
    } catch (error) {
      broken = await db.query('ROLLBACK').then(() => undefined, (e) => e)
      throw httpError(error, claims.role)
    } finally {
      db.release(broken)
    }
  }

  const server = createServer(async (request, response) => {
    let answer
    try {
      const url = new URL(request.url, 'http://localhost')
      if (await other(request, response, url)) return
      const chunks = []
      for await (const chunk of request) chunks.push(chunk)
      answer = await call(request, url, Buffer.concat(chunks).toString())
    } catch (error) {
      const { status, code, message, details, hint } = httpError(error)
      answer = { status, body: JSON.stringify({ code, details, hint, message }) }
    }
    response.writeHead(answer.status, { 'content-type': JSON_TYPE, ...answer.headers }).end(answer.body)
  })
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))

  return {
    url: `http://127.0.0.1:${server.address().port}`,
    async close() {
      server.closeAllConnections?.() // keep-alive sockets would hold it open
      await new Promise((resolve) => server.close(resolve))
      await pool.end()
    },
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.env.DATABASE_URL) {
    console.error('DATABASE_URL is not set: give the URI of a database with the extension and the role authenticator')
    process.exit(2)
  }
  const { url } = await serve({ databaseUrl: process.env.DATABASE_URL, port: Number(process.env.PORT ?? 0) })
  console.log(`${url}/rest/v1/rpc/pull_changes`)
  console.log(`anon: ${token({ role: 'anon' })}`)
  const sub = process.argv[2] ?? '00000000-0000-4000-8000-00000000000a'
  console.log(`authenticated, user ${sub}: ${token({ role: 'authenticated', sub })}`)
}
