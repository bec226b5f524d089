// Real client libraries and frameworks against a Larder cache. LARDER_REDIS is host:port, LARDER_REST a base URL, LARDER_CACHE
// and LARDER_KEY the login. Each test uses keys of its own.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { createAdapter } from '@socket.io/redis-adapter'
import { Ratelimit } from '@upstash/ratelimit'
import { Redis as Upstash } from '@upstash/redis'
import { Queue, QueueEvents, Worker } from 'bullmq'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import IORedis from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { createClient } from 'redis'
import Redlock from 'redlock'
import { Server } from 'socket.io'
import { io } from 'socket.io-client'

const [host, port] = process.env.LARDER_REDIS.split(':')
const login = { host, port: Number(port), username: process.env.LARDER_CACHE, password: process.env.LARDER_KEY }
const ioredis = (more = {}) => new IORedis({ ...login, ...more })

describe('ioredis', () => {
  let r
  before(() => { r = ioredis() })
  after(() => r.quit())

  test('values, pipelines and transactions', async () => {
    assert.equal(await r.set('io:a', '1', 'EX', 60), 'OK')
    const replies = await r.pipeline().incr('io:a').get('io:a').hset('io:h', 'f', 'v').hgetall('io:h').exec()
    assert.deepEqual(replies.map(([err, v]) => err ?? v), [2, '2', 1, { f: 'v' }])
    assert.deepEqual(await r.multi().lpush('io:l', 'x').lrange('io:l', 0, -1).exec(), [[null, 1], [null, ['x']]])
    await r.del('io:l', 'io:h')
  })

  test('scripts of its own', async () => {
    r.defineCommand('addTo', { numberOfKeys: 1, lua: 'return redis.call("INCRBY", KEYS[1], ARGV[1])' })
    await r.del('io:n')
    assert.equal(await r.addTo('io:n', 5), 5)
    assert.equal(await r.addTo('io:n', 5), 10)
  })

  test('streams, blocking reads and messages', async () => {
    const other = ioredis()
    await r.del('io:s', 'io:q')
    const [read, popped] = [other.xread('BLOCK', 5000, 'STREAMS', 'io:s', '$'), null]
    await sleep(100)
    await r.xadd('io:s', '*', 'k', 'v')
    assert.equal((await read)[0][1][0][1][1], 'v')
    const pop = other.brpop('io:q', 5)
    await sleep(50)
    await r.lpush('io:q', 'job')
    assert.deepEqual(await pop, ['io:q', 'job'])
    assert.equal(popped, null)
    const heard = new Promise(resolve => other.on('message', (channel, text) => resolve([channel, text])))
    await other.subscribe('io:c')
    assert.equal(await r.publish('io:c', 'hello'), 1)
    assert.deepEqual(await heard, ['io:c', 'hello'])
    await other.quit()
  })

  test('a cluster client finds one shard', async () => {
    const c = new IORedis.Cluster([{ host, port: Number(port) }], { redisOptions: { username: login.username, password: login.password } })
    assert.equal(await c.set('io:cluster', 'v'), 'OK')
    assert.equal(await c.get('io:cluster'), 'v')
    c.disconnect()
  })
})

describe('node-redis', () => {
  test('RESP2, RESP3 and client-side caching', async () => {
    for (const options of [{ RESP: 2 }, { RESP: 3 }, { RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } }]) {
      const c = createClient({ username: login.username, password: login.password, socket: { host, port: login.port }, ...options })
      await c.connect()
      await c.set('nr:a', 'x')
      assert.equal(await c.get('nr:a'), 'x')
      assert.equal(await c.get('nr:a'), 'x')
      const other = c.duplicate({ clientSideCache: undefined })
      await other.connect()
      await other.set('nr:a', 'y')
      await sleep(100)
      assert.equal(await c.get('nr:a'), 'y')
      await c.hSet('nr:h', { a: '1', b: '2' })
      assert.deepEqual({ ...await c.hGetAll('nr:h') }, { a: '1', b: '2' })
      assert.deepEqual(await c.multi().set('nr:m', '1').incr('nr:m').exec(), ['OK', 2])
      await other.close()
      await c.close()
    }
  })
})

describe('over the REST dialect', () => {
  const redis = new Upstash({ url: process.env.LARDER_REST, token: process.env.LARDER_KEY })

  test('@upstash/redis', async () => {
    await redis.set('up:a', { deep: [1, 'two'] })
    assert.deepEqual(await redis.get('up:a'), { deep: [1, 'two'] })
    const p = redis.pipeline()
    p.set('up:n', 1)
    p.incr('up:n')
    assert.deepEqual(await p.exec(), ['OK', 2])
    const tx = redis.multi()
    tx.set('up:n', 5)
    tx.incrby('up:n', 2)
    assert.deepEqual(await tx.exec(), ['OK', 7])
  })

  test('@upstash/ratelimit', async () => {
    for (const limiter of [Ratelimit.fixedWindow(2, '60 s'), Ratelimit.slidingWindow(2, '60 s'), Ratelimit.tokenBucket(2, '60 s', 2)]) {
      const limit = new Ratelimit({ redis, limiter, prefix: 'up:limit:' + Math.random() })
      assert.deepEqual([(await limit.limit('ann')).success, (await limit.limit('ann')).success, (await limit.limit('ann')).success], [true, true, false])
    }
  })
})

describe('frameworks', () => {
  test('BullMQ', async () => {
    const connection = { ...login, maxRetriesPerRequest: null }
    const name = 'bull' + Date.now()
    const queue = new Queue(name, { connection })
    const events = new QueueEvents(name, { connection })
    await events.waitUntilReady()
    let failed = 0
    const worker = new Worker(name, async job => {
      if (job.name === 'flaky' && job.attemptsMade === 0) {
        failed++
        throw new Error('once')
      }
      return job.data.n * 2
    }, { connection, concurrency: 4 })
    const jobs = await queue.addBulk([...Array(20).keys()].map(n => ({ name: 'double', data: { n } })))
    jobs.push(await queue.add('flaky', { n: 50 }, { attempts: 2, backoff: 10 }))
    jobs.push(await queue.add('later', { n: 60 }, { delay: 200 }))
    const results = await Promise.all(jobs.map(j => j.waitUntilFinished(events, 20000)))
    assert.deepEqual(results, [...[...Array(20).keys()].map(n => 2 * n), 100, 120])
    assert.equal(failed, 1)
    assert.equal((await queue.getJobCounts()).completed, 22)
    await worker.close()
    await events.close()
    await queue.obliterate({ force: true })
    await queue.close()
  })

  test('express-session with connect-redis', async () => {
    const client = createClient({ username: login.username, password: login.password, socket: { host, port: login.port } })
    await client.connect()
    const app = express()
    app.use(session({ store: new RedisStore({ client, prefix: 'sess:' }), secret: 's', resave: false, saveUninitialized: false }))
    app.get('/', (req, res) => { req.session.n = (req.session.n ?? 0) + 1; res.send(String(req.session.n)) })
    const server = app.listen(0)
    const url = `http://127.0.0.1:${server.address().port}/`
    const first = await fetch(url)
    const cookie = first.headers.get('set-cookie').split(';')[0]
    assert.equal(await first.text(), '1')
    assert.equal(await (await fetch(url, { headers: { cookie } })).text(), '2')
    server.closeAllConnections()
    server.close()
    await client.close()
  })

  test('socket.io adapter', async () => {
    const clients = []
    const serve = async () => {
      const pub = ioredis()
      const sub = pub.duplicate()
      clients.push(pub, sub)
      const server = http.createServer()
      const s = new Server(server, { adapter: createAdapter(pub, sub, { key: 'sio' }) })
      s.on('connection', socket => socket.join('room'))
      await new Promise(resolve => server.listen(0, resolve))
      return { s, url: `http://127.0.0.1:${server.address().port}` }
    }
    const [a, b] = [await serve(), await serve()]
    const socket = io(b.url, { transports: ['websocket'] })
    await new Promise(resolve => socket.on('connect', resolve))
    const got = new Promise(resolve => socket.on('news', resolve))
    await sleep(200)
    a.s.to('room').emit('news', 'from the other server')
    assert.equal(await got, 'from the other server')
    assert.equal((await a.s.fetchSockets()).length, 1)
    socket.close()
    for (const { s } of [a, b]) await s.close()
    for (const c of clients) c.disconnect()
  })

  test('redlock', async () => {
    const r = ioredis()
    const lock = new Redlock([r], { retryCount: 0 })
    const held = await lock.acquire(['lock:a'], 5000)
    await assert.rejects(lock.acquire(['lock:a'], 5000))
    await held.release()
    await (await lock.acquire(['lock:a'], 5000)).release()
    await r.quit()
  })

  test('rate-limiter-flexible', async () => {
    const r = ioredis()
    const limiter = new RateLimiterRedis({ storeClient: r, keyPrefix: 'rl' + Date.now(), points: 2, duration: 60 })
    await limiter.consume('ann')
    await limiter.consume('ann')
    await assert.rejects(limiter.consume('ann'), e => e.remainingPoints === 0)
    await r.quit()
  })
})
