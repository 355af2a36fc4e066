// One device's window: what its replica has, on the page; what is done on the page, into the replica.

import { listen } from './pokes.js'
import { idOf, Replica } from './replica.js'

const parameters = new URLSearchParams(location.search)
const user = parameters.get('user') ?? 'alice'
const device = parameters.get('device') ?? 'phone'
const find = (selector, root = document) => root.querySelector(selector)
const capitals = (name) => name[0].toUpperCase() + name.slice(1)

const { token, users } = await (await fetch(`sign-in?user=${user}`)).json()
const me = users[user]
const other = Object.keys(users).find((name) => name !== user)

document.title = `${capitals(user)}’s ${device}`
document.body.dataset.user = user
find('.avatar').textContent = capitals(user)[0]
find('.user').textContent = capitals(user)
find('.name').textContent = device

// One window is one device: two would write over each other's replica.
find('.status').textContent = 'Open in another window'
await new Promise((resolve) => {
  navigator.locks.request(`${user} ${device}`, () => { resolve(); return new Promise(() => {}) })
})

let line = new AbortController() // what ends when the device is switched off
const isOnline = () => find('.online').checked

async function call(name, args) {
  if (!isOnline()) throw new Error('offline')
  const response = await fetch(`rest/v1/rpc/${name}`, {
    method: 'POST', body: JSON.stringify(args), signal: line.signal,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
  })
  const answer = await response.json()
  if (!response.ok) throw Object.assign(new Error(answer.message), answer)
  return answer
}

const replica = new Replica(`${user} ${device}`, call)

// The elements of a collection's rows, in their order: those that are there stay, so nobody loses the place where he types.
function arrange(parent, rows, template, fill) {
  const there = new Map([...parent.children].map((element) => [element.dataset.id, element]))
  let before = null
  for (const row of rows) {
    const isNew = !there.has(row.id)
    const element = there.get(row.id) ?? find(template).content.firstElementChild.cloneNode(true)
    there.delete(row.id)
    element.dataset.id = row.id
    const place = before ? before.nextSibling : parent.firstChild
    if (element !== place) parent.insertBefore(element, place)
    fill(element, row, isNew)
    before = element
  }
  for (const element of there.values()) element.remove()
}

const byName = (a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1)
const byAge = (a, b) => Date.parse(a.created_at) - Date.parse(b.created_at) || (a.id < b.id ? -1 : 1)

function show(come = []) {
  const isSharedWith = (list, who) => replica.rows('members').some((m) => m.list_id === list.id && m.user_id === who)
  arrange(find('.lists'), replica.rows('lists').sort(byName), '#list', (element, list, isNew) => {
    const isMine = list.owner_id === me
    find('.title', element).textContent = list.name
    find('.from', element).textContent = isMine ? '' : `${capitals(other)}’s`
    const share = find('.share', element)
    share.hidden = !isMine
    const shared = isSharedWith(list, users[other])
    share.textContent = shared ? `Shared with ${capitals(other)}` : `Share with ${capitals(other)}`
    share.title = shared ? 'Take it back' : ''
    share.classList.toggle('shared', shared)
    if (isNew) {
      share.onclick = () => {
        const membership = { list_id: list.id, user_id: users[other] }
        if (isSharedWith(list, users[other])) replica.delete('members', idOf.members(membership))
        else replica.create('members', membership)
      }
      find('form', element).onsubmit = (event) => {
        event.preventDefault()
        const title = find('.new', element).value.trim()
        find('form', element).reset()
        const [id, created_at] = [crypto.randomUUID(), new Date().toISOString()]
        if (title) replica.create('todos', { id, list_id: list.id, title, done: false, created_at })
      }
    }
    const todos = replica.rows('todos').filter((todo) => todo.list_id === list.id)
    arrange(find('ul', element), todos.sort(byAge), '#todo', (item, todo, isNewItem) => {
      const [done, text] = [find('.done', item), find('.text', item)]
      done.checked = todo.done
      if (text.value !== todo.title) text.value = todo.title
      item.classList.toggle('is-done', todo.done)
      if (come.includes(todo.id)) {
        item.classList.remove('come')
        void item.offsetWidth // begins the animation anew
        item.classList.add('come')
      }
      if (!isNewItem) return
      done.onchange = () => replica.update('todos', todo.id, { done: done.checked })
      text.oninput = () => replica.update('todos', todo.id, { title: text.value })
      text.onkeydown = ({ key }) => { if (key === 'Enter' || key === 'Escape') text.blur() }
      find('.delete', item).onclick = () => replica.delete('todos', todo.id)
    })
  })
  showStatus()
}

document.addEventListener('pointerdown', () => { refused = '' })

let isConnected = false
let refused = ''
function showStatus() {
  const waiting = replica.unpushed
  const changes = waiting === 1 ? '1 change waits' : `${waiting} changes wait`
  const state = !isOnline() ? 'offline' : isConnected ? (waiting ? 'busy' : 'live') : 'lost'
  document.body.dataset.state = state
  find('.status').textContent = {
    offline: waiting ? `Offline, ${changes}` : 'Offline',
    lost: 'No connection, trying again',
    busy: changes,
    live: refused || 'Up to date',
  }[state]
}

replica.addEventListener('change', ({ detail }) => show(detail.come))
replica.addEventListener('synced', showStatus)
replica.addEventListener('refused', ({ detail }) => { refused = `Not taken: ${detail.message}` })
// A call that failed is tried again. (When the line is back, the gateway's first poke does it.)
replica.addEventListener('failed', () => { if (isOnline() && isConnected) setTimeout(() => replica.sync(), 1000) })

function connect() {
  line.abort()
  line = new AbortController()
  isConnected = false
  find('.switch span').textContent = isOnline() ? 'online' : 'offline'
  showStatus()
  // A browser has few connections per server: a window that nobody sees lets go of its own.
  if (!isOnline() || document.hidden) return
  listen({
    url: 'pokes?collections=lists,members,todos', token, signal: line.signal,
    connected: (is) => { isConnected = is; showStatus() },
    heard: () => replica.sync(),
  })
}

find('.online').onchange = connect
document.addEventListener('visibilitychange', connect)
show()
connect()
