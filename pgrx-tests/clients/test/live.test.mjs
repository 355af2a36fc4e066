// The page of `make demo-live`, in a headless Chromium: what is done in one window is seen in the others.
//   SCREENSHOT=../../docs/img/live.png node --test test/live.test.mjs      takes the README's picture, too

import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { findBrowser, openBrowser } from '../lib/browser.mjs'
import { openLive, seed, USERS } from '../live.mjs'

const program = findBrowser()

// A window of one device, and what a person does there and sees.
class Window {
  constructor(page) {
    this.page = page
  }

  list(name) {
    return this.page.locator('.list').filter({ has: this.page.locator('.title', { hasText: new RegExp(`^${name}$`) }) })
  }

  // By its place in the list: what it says may be about to change.
  todo(list, nth) {
    return this.list(list).locator('.todo').nth(nth)
  }

  async add(list, title) {
    await this.list(list).locator('.new').fill(title)
    await this.list(list).locator('.new').press('Enter')
  }

  async switch(on) {
    await this.page.locator('.switch').click()
    await this.page.locator(`body[data-state=${on ? 'live' : 'offline'}]`).waitFor()
  }

  // Waits until this is on the page: { list: ['[x] title', ...] }.
  async shows(wanted) {
    await this.page.waitForFunction(isShown, JSON.stringify(wanted)).catch(async () => {
      assert.fail(`wanted ${JSON.stringify(wanted)}, there is ${await this.page.evaluate(isShown)}`)
    })
  }
}

// Runs in the page.
function isShown(wanted) {
  const lists = [...document.querySelectorAll('.list')].map((list) => [
    list.querySelector('.title').textContent,
    [...list.querySelectorAll('.todo')].map((todo) =>
      `[${todo.querySelector('.done').checked ? 'x' : ' '}] ${todo.querySelector('.text').value}`),
  ])
  const shown = JSON.stringify(Object.fromEntries(lists))
  return wanted ? shown === wanted : shown
}

describe('the page', { skip: !program && 'there is no Chromium here (Debian: apt-get install chromium)' }, () => {
  let live, browser, context
  before(async () => {
    live = await openLive(`snapsync_clients_live_${process.pid}`)
    browser = await openBrowser(program)
  })
  after(async () => {
    await browser?.close()
    await live?.close()
  })
  beforeEach(async () => {
    await live.sql('DELETE FROM lists')
    context = await browser.newContext({ reducedMotion: 'reduce' })
    context.setDefaultTimeout(15_000)
  })
  afterEach(() => context.close())

  async function openPage(user, device) {
    const page = await context.newPage()
    page.on('pageerror', (error) => assert.fail(error))
    await page.goto(`${live.url}/device.html?user=${user}&device=${device}`)
    return page
  }

  // A window that has had its first pull.
  async function open(user, device) {
    const page = await openPage(user, device)
    await page.locator('body[data-state=live]').waitFor()
    return new Window(page)
  }

  // What the server has, as this user sees it.
  async function served(user) {
    const rows = await live.as(USERS[user], `
      SELECT l.name, coalesce(json_agg(format('[%s] %s', CASE WHEN t.done THEN 'x' ELSE ' ' END, t.title)
                                       ORDER BY t.created_at, t.id) FILTER (WHERE t.id IS NOT NULL), '[]') AS todos
        FROM lists AS l LEFT JOIN todos AS t ON t.list_id = l.id GROUP BY l.id, l.name ORDER BY l.name`)
    return Object.fromEntries(rows.map(({ name, todos }) => [name, todos]))
  }

  it('shows in one window what is typed in the other', async () => {
    await seed(live, USERS.alice, 'Groceries', ['Milk'])
    await seed(live, USERS.bob, 'Boat', [])
    const [phone, laptop, tablet] = [await open('alice', 'phone'), await open('alice', 'laptop'), await open('bob', 'tablet')]
    for (const one of [phone, laptop]) await one.shows({ Groceries: ['[ ] Milk'] })
    await phone.add('Groceries', 'Bread')
    await laptop.shows({ Groceries: ['[ ] Milk', '[ ] Bread'] })
    await laptop.todo('Groceries', 1).locator('.text').press('End')
    await laptop.todo('Groceries', 1).locator('.text').pressSequentially(' and butter')
    await phone.shows({ Groceries: ['[ ] Milk', '[ ] Bread and butter'] })
    await phone.todo('Groceries', 0).locator('.done').click()
    await laptop.shows({ Groceries: ['[x] Milk', '[ ] Bread and butter'] })
    await laptop.todo('Groceries', 0).hover()
    await laptop.todo('Groceries', 0).locator('.delete').click()
    for (const one of [phone, laptop]) await one.shows({ Groceries: ['[ ] Bread and butter'] })
    await tablet.shows({ Boat: [] })
    // The server's own hands.
    await live.sql(`UPDATE todos SET title = 'Cheese'`)
    for (const one of [phone, laptop]) await one.shows({ Groceries: ['[ ] Cheese'] })
    assert.deepEqual(await served('alice'), { Groceries: ['[ ] Cheese'] })

    // One window is one device.
    const again = await openPage('alice', 'phone')
    await again.getByText('Open in another window').waitFor()
    await phone.page.close()
    await new Window(again).shows({ Groceries: ['[ ] Cheese'] })
  })

  it('brings together what both did while the line was cut', async () => {
    await seed(live, USERS.alice, 'Groceries', ['Milk', 'Bread', 'Salt'])
    const [phone, laptop] = [await open('alice', 'phone'), await open('alice', 'laptop')]
    for (const one of [phone, laptop]) await one.switch(false)
    await phone.todo('Groceries', 0).locator('.text').fill('Oat milk')
    await phone.add('Groceries', 'Tea')
    await phone.todo('Groceries', 2).locator('.done').click()
    await laptop.todo('Groceries', 0).locator('.done').click()
    await laptop.todo('Groceries', 1).hover()
    await laptop.todo('Groceries', 1).locator('.delete').click()
    await laptop.todo('Groceries', 1).locator('.text').fill('Sea salt')
    await laptop.add('Groceries', 'Coffee')
    await phone.shows({ Groceries: ['[ ] Oat milk', '[ ] Bread', '[x] Salt', '[ ] Tea'] })
    await laptop.shows({ Groceries: ['[x] Milk', '[ ] Sea salt', '[ ] Coffee'] })
    await phone.page.reload() // what is not pushed yet outlives it
    await phone.page.locator('body[data-state=live]').waitFor()
    await laptop.switch(true)
    const both = { Groceries: ['[x] Oat milk', '[x] Sea salt', '[ ] Tea', '[ ] Coffee'] }
    for (const one of [phone, laptop]) await one.shows(both)
    assert.deepEqual(await served('alice'), both)
  })

  it('gives a list to a second user, and takes it from his window at once', async () => {
    await seed(live, USERS.alice, 'Groceries', ['Milk'])
    await seed(live, USERS.bob, 'Boat', [])
    const [phone, laptop, tablet] = [await open('alice', 'phone'), await open('alice', 'laptop'), await open('bob', 'tablet')]
    await tablet.shows({ Boat: [] })
    await phone.list('Groceries').getByText('Share with Bob').click()
    await tablet.shows({ Boat: [], Groceries: ['[ ] Milk'] })
    await laptop.list('Groceries').getByText('Shared with Bob').waitFor()
    await tablet.todo('Groceries', 0).locator('.done').click()
    for (const one of [phone, laptop]) await one.shows({ Groceries: ['[x] Milk'] })
    await laptop.list('Groceries').getByText('Shared with Bob').click()
    await tablet.shows({ Boat: [] })
    await phone.list('Groceries').getByText('Share with Bob').click()
    await tablet.shows({ Boat: [], Groceries: ['[x] Milk'] })

    // What Bob does offline in a list that he has no more is lost, and nothing else of his.
    await tablet.switch(false)
    await tablet.add('Groceries', 'Gin')
    await tablet.add('Boat', 'Rope')
    await phone.list('Groceries').getByText('Shared with Bob').click()
    await laptop.list('Groceries').getByText('Share with Bob').waitFor()
    await tablet.switch(true)
    await tablet.shows({ Boat: ['[ ] Rope'] })
    for (const one of [phone, laptop]) await one.shows({ Groceries: ['[x] Milk'] })
    assert.deepEqual(await served('bob'), { Boat: ['[ ] Rope'] })
  })

  it('has three devices side by side', async () => {
    const groceries = await seed(live, USERS.alice, 'Groceries', ['Milk', 'Bread', 'Strawberries'])
    await seed(live, USERS.alice, 'Garden', ['Water the beans'])
    await seed(live, USERS.bob, 'Boat', ['Varnish the mast'])
    await live.sql('INSERT INTO members (list_id, user_id, owner_id) VALUES ($1, $2, $3)', [groceries, USERS.bob, USERS.alice])
    const page = await context.newPage()
    await page.setViewportSize({ width: 1040, height: 632 })
    await page.goto(live.url)
    const [phone, laptop, tablet] = await Promise.all(['phone', 'laptop', 'tablet'].map(async (name) =>
      new Window(await (await page.locator(`iframe[title$=${name}]`).elementHandle()).contentFrame())))
    await phone.page.locator('body[data-state=live]').waitFor()
    await laptop.page.locator('body[data-state=live]').waitFor()
    await laptop.switch(false)
    await laptop.todo('Groceries', 1).locator('.done').click()
    await tablet.todo('Groceries', 0).locator('.done').click()
    await phone.add('Groceries', 'Cream')
    const alices = (groceries) => ({ Garden: ['[ ] Water the beans'], Groceries: groceries })
    await phone.shows(alices(['[x] Milk', '[ ] Bread', '[ ] Strawberries', '[ ] Cream']))
    await laptop.shows(alices(['[ ] Milk', '[x] Bread', '[ ] Strawberries']))
    await tablet.shows({ Boat: ['[ ] Varnish the mast'], Groceries: ['[x] Milk', '[ ] Bread', '[ ] Strawberries', '[ ] Cream'] })
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT })
    await laptop.switch(true)
    await phone.shows(alices(['[x] Milk', '[x] Bread', '[ ] Strawberries', '[ ] Cream']))
  })
})
