// Listens to the gateway until `signal` says stop, and comes back when the line was cut. `heard` gets each poke; the first one after each
// beginning names no collection, for anything may have changed before.
// (An EventSource cannot send a token in a header, and a token does not belong in a URL.)

export async function listen({ url, token, signal, heard, connected = () => {} }) {
  const [SHORTEST, LONGEST] = [200, 5000]
  let pause = SHORTEST
  while (!signal.aborted) {
    try {
      const response = await fetch(url, { headers: { authorization: `Bearer ${token}` }, signal })
      if (!response.ok) throw new Error(`HTTP ${response.status}`)
      connected(true)
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      for (let text = '', part; !(part = await reader.read()).done;) {
        const messages = (text + part.value).split('\n\n')
        text = messages.pop()
        for (const message of messages) {
          if (!message.startsWith('data: ')) continue // a sign of life
          pause = SHORTEST
          heard(JSON.parse(message.slice(6)))
        }
      }
    } catch {
      // Cut off, or refused: it is tried again.
    }
    if (!signal.aborted) connected(false)
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause)
      signal.addEventListener('abort', () => { clearTimeout(timer); resolve() }, { once: true })
    })
    pause = Math.min(2 * pause, LONGEST)
  }
}
