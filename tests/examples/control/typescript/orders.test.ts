import assert from 'node:assert/strict'
import test from 'node:test'
import createClient from 'openapi-fetch'
import type { paths } from './notnow'
import { fetchOrders } from './orders'

const api = createClient<paths, `application/${string}json`>({ baseUrl: process.env.NOTNOW_CONTROL })

test('orders come in spite of an overload', async (t) => {
  const { data: server, error } = await api.POST('/v1/servers', {
    body: { scenario: 'http/overload', tls: 'none', speed: 0, ttl: '5m' },
  })
  assert.ok(server, error?.detail)
  t.after(() => api.DELETE('/v1/servers/{name}', { params: { path: { name: server.name } } }))

  // The clock of the server stands still: it is as late as the client has waited.
  const sleep = async (seconds: number) => {
    await api.POST('/v1/clock/advance', { body: { by: seconds, servers: [server.name] } })
  }
  assert.equal(await fetchOrders(server.url, sleep), 200)

  const query = { server: [server.name], exit: 0, count: 1 }
  const { data: verdict } = await api.GET('/v1/verdict', { params: { query } })
  assert.equal(verdict?.outcome, 'well behaved', verdict?.result_in_words ?? '')
})
