// A headless Chromium, if there is one: pgrx-tests/setup.sh installs Debian's. CHROMIUM=/path picks another.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome']

function isProgram(path) {
  try { accessSync(path, constants.X_OK); return true } catch { return false }
}

export function findBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM
  const directories = (process.env.PATH ?? '').split(delimiter)
  return NAMES.flatMap((name) => directories.map((directory) => join(directory, name))).find(isProgram)
}

// Its sandbox wants rights that root in a container has not; and /dev/shm is small there.
export const openBrowser = (executablePath) => chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] })
