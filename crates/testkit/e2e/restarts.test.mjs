// How long stock clients are away while their only node restarts. One attempt that fails costs pusher-js 15 seconds, so a client that
// is back before that had every attempt answered, or let wait.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';

// The figures of docs/benchmarks.md are those of 200 clients on an idle machine.
const CLIENTS = Number(process.env.FANFARE_RESTART_CLIENTS ?? 40);
const FAILED_ATTEMPT = 15_000;

test('with a socket that outlives the process, every attempt of a client waits for the next one', async (t) => {
  const server = await start(t, { held: true });
  for (const gap of [0, 2_000]) {
    const away = await restart(server, clientsOf(server), gap);
    report(`held socket, ${gap} ms between the processes`, away);
    assert.ok(Math.max(...away) < FAILED_ATTEMPT - 3_000, `away for ${away} ms`);
  }
});

test('with a socket that outlives the process, clients of one that was killed wait for the next one as well', async (t) => {
  const server = await start(t, { held: true });
  const away = await restart(server, clientsOf(server), 1_000, 'SIGKILL');
  report('held socket, killed, 1000 ms between the processes', away);
  assert.ok(Math.max(...away) < FAILED_ATTEMPT - 3_000, `away for ${away} ms`);
});

for (const name of ['caddy', 'haproxy', 'nginx', 'apache', 'lighttpd', 'varnish']) {
  describe(name, { skip: missing(name) }, () => {
    // The others have no way to wait for a node that cannot be reached.
    const held = !['caddy', 'haproxy'].includes(name);
    test(`a restart ${held ? 'with a held socket ' : ''}behind it costs no client an attempt`, async (t) => {
      const env = { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1' };
      const server = await start(t, { env, held });
      const front = await startProxy(PROXIES[name], [server]);
      t.after(() => front.stop());
      for (const gap of [0, 2_000]) {
        const clients = clientsOf(server, { forceTLS: true, wssPort: front.https });
        const away = await restart(server, clients, gap);
        report(`${name}, ${held ? 'held socket, ' : ''}${gap} ms between the processes`, away);
        assert.ok(Math.max(...away) < FAILED_ATTEMPT - 1_000, `away for ${away} ms`);
      }
    });
  });
}

async function start(t, options) {
  const server = await startServer(options);
  t.after(() => server.stop());
  return server;
}

function clientsOf(server, overrides) {
  return Array.from({ length: CLIENTS }, () => server.client(overrides));
}

/** Restarts the server with so many ms between its processes, and returns for how long each client was not subscribed. */
async function restart(server, clients, gap, signal = 'SIGTERM') {
  const channels = await Promise.all(clients.map((client) => subscribe(client, 'news')));
  const away = channels.map((channel, index) => {
    let since;
    // The state says so only once the client tries again.
    clients[index].connection.connection.transport.bind('closed', () => (since ??= performance.now()));
    return new Promise((resolve) => {
      channel.bind('pusher:subscription_succeeded', () => since && resolve(Math.round(performance.now() - since)));
    });
  });
  await server.end(signal);
  await delay(gap);
  await server.start();
  const times = await Promise.all(away);
  server.disconnectClients();
  return times.sort((a, b) => a - b);
}

function report(what, away) {
  const at = (share) => (away[Math.floor((away.length - 1) * share)] / 1000).toFixed(1);
  console.log(`# ${what}: ${away.length} clients away for ${at(0.5)} s (p50), ${at(0.9)} s (p90), ${at(1)} s (longest)`);
}
