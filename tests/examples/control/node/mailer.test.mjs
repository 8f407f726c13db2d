import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import { send } from './mailer.mjs'

const api = process.env.NOTNOW_CONTROL // the URL that `notnow serve --control` printed

async function call(method, path, body) {
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) })
  if (!answer.ok) throw new Error(await answer.text())
  return answer
}

// A server of its own for each test, so that tests may run side by side. Its clock stands still.
async function serving(t, scenario, knobs = {}) {
  const answer = await call('POST', '/v1/servers', { scenario, knobs, speed: 0, ttl: '5m' })
  const server = await answer.json()
  t.after(() => call('DELETE', `/v1/servers/${server.name}`))
  return server
}

// Give the server time to come back, when the client would sleep. In production `sleep` is setTimeout.
const asleep = (server) => (minutes) =>
  call('POST', '/v1/clock/advance', { by: `${minutes}m`, servers: [server.name] })

const mail = {
  from: 'me@example.org',
  to: 'you@example.net',
  subject: 'hi',
  text: 'hi',
  messageId: '<1@example.org>',
}

describe('mail gets through', { concurrency: true }, () => {
  const scenarios = [['smtp/overload', { outage: '2h' }], ['smtp/greylisting'], ['smtp/yahoo-tss04']]
  for (const [scenario, knobs] of scenarios) {
    it(`in spite of ${scenario}`, async (t) => {
      const server = await serving(t, scenario, knobs)
      await send(mail, { port: server.port, sleep: asleep(server) })
      const verdict = await call('GET', `/v1/verdict?server=${server.name}&format=text&exit=0&count=1`)
      assert.equal(verdict.headers.get('notnow-exit'), '0', await verdict.text())
    })
  }

  it('and the third connection is the one that is admitted', async (t) => {
    const server = await serving(t, 'smtp/overload', { outage: '1h' })
    const sent = send(mail, { port: server.port, sleep: asleep(server) })
    await call('GET', `/v1/servers/${server.name}/wait?connect=3&mail=1&timeout=10s`)
    await sent
    const journal = await call('GET', `/v1/servers/${server.name}/journal?moment=connect`)
    const { entries } = await journal.json()
    assert.deepEqual(entries.map((one) => one.reply.slice(0, 3)), ['421', '421', '220'])
  })
})
