// Clients that are silent for five minutes, through every proxy with its configuration from deploy/: WebSockets with Fanfare's PINGs and
// without, and a stream of the HTTP fallback. Not a part of scripts/test, because it takes as long as it says:
//
//   FANFARE_BIN=target/debug/fanfare node crates/testkit/e2e/idle-proxies.mjs [MINUTES] [PROXY]...
import { setTimeout as delay } from 'node:timers/promises';
import { connected, next, startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';

const [minutes = 5, ...asked] = process.argv.slice(2);
const names = asked.length > 0 ? asked : Object.keys(PROXIES);
// Sessions of the fallbacks would be asked to try a WebSocket within five minutes.
const env = { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1', FANFARE_FALLBACK_WEBSOCKET_RETRY: '0' };
// Fanfare itself then says nothing before activity_timeout, 120 s.
const silent = { ...env, FANFARE_WEBSOCKET_PING_INTERVAL: '0' };

const results = await Promise.all(names.flatMap((name) => [
  watch(name, 'WebSocket', env, { enabledTransports: ['ws'] }),
  watch(name, 'WebSocket without PINGs of the server', silent, { enabledTransports: ['ws'] }),
  watch(name, 'xhr_streaming', env, { enabledTransports: ['xhr_streaming'] }),
]));
process.exit(results.every(Boolean) ? 0 : 1);

/** Whether a connection stays and still receives afterwards. */
async function watch(name, what, env, transport) {
  const say = (text) => console.log(`${name}, ${what}: ${text}`);
  const why = missing(name);
  if (why) {
    say(why);
    return true;
  }
  const server = await startServer({ env });
  const front = await startProxy(PROXIES[name], [server]);
  try {
    const client = server.client({ forceTLS: true, wssPort: front.https, httpHost: '127.0.0.1', httpsPort: front.https, ...transport });
    const channel = await subscribe(client, 'news');
    const id = await connected(client);
    const started = Date.now();
    const ended = new Promise((resolve) => client.connection.bind('state_change', () => resolve(true)));
    const left = await Promise.race([ended, delay(minutes * 60_000)]);
    if (left) return void say(`ended after ${Math.round((Date.now() - started) / 1000)} s`);
    const received = next(channel, 'headline');
    await server.sdk().trigger('news', 'headline', {});
    await received;
    const same = client.connection.socket_id === id;
    say(same ? `stays for ${minutes} minutes` : 'was connected anew');
    return same;
  } finally {
    server.disconnectClients();
    await front.stop();
    await server.stop();
  }
}
