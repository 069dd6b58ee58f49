// Each proxy with its configuration from deploy/, which reaches the server over a Unix socket instead of a port.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { next, startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';

const PASSWORD = 'correct horse battery';
// This machine too, and one of the operators' addresses in the files.
const OPERATOR = '127.0.0.5';
// How each proxy writes the path of a Unix socket.
const UPSTREAM = { nginx: (path) => `unix:${path}`, haproxy: (path) => `unix@${path}`, caddy: (path) => `unix/${path}` };

for (const [name, upstream] of Object.entries(UPSTREAM)) {
  describe(`${name} over a Unix socket`, { skip: missing(name) }, () => {
    let server, front, folder;

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'fanfare-socket-'));
      const path = join(folder, 'fanfare.sock');
      server = await startServer({
        settings: { tls_only: true },
        env: { FANFARE_OWNER_PASSWORD: PASSWORD },
        also: [`unix:${path}`],
      });
      front = await startProxy(PROXIES[name], [{ upstream: upstream(path) }]);
    });
    after(async () => {
      server?.disconnectClients();
      await front?.stop();
      await server?.stop();
      await rm(folder, { recursive: true, force: true });
    });

    test('clients subscribe and receive, over WebSockets and the streaming fallback', async () => {
      const through = { forceTLS: true, wssPort: front.https };
      const fallback = { ...through, enabledTransports: ['xhr_streaming'], httpHost: '127.0.0.1', httpsPort: front.https };
      for (const options of [through, fallback]) {
        const channel = await subscribe(server.client(options), 'private-news');
        const received = next(channel, 'headline');
        await server.sdk({ port: front.https, useTLS: true }).trigger('private-news', 'headline', { text: 'Zürich 🎉' });
        assert.deepEqual(await received, { text: 'Zürich 🎉' });
      }
    });

    test('the address in the audit log is the client’s, whatever it says of itself', async () => {
      const body = JSON.stringify({ name: 'owner', password: PASSWORD });
      const headers = { 'x-forwarded-for': '203.0.113.1' };
      const { access_token } = await ask('/api/v1/sessions', { method: 'POST', body, headers });
      const listed = await ask('/api/v1/audit?limit=100', { headers: { authorization: `Bearer ${access_token}` } });
      const entry = listed.items.find(({ action }) => action.startsWith('session.'));
      assert.equal(entry?.actor.address, OPERATOR);
    });

    /** A request through the proxy, from an address of this machine, and the JSON that is answered. */
    function ask(path, { method = 'GET', body, headers }) {
      const options = { host: '127.0.0.1', port: front.https, path, method, localAddress: OPERATOR };
      return new Promise((resolve, reject) => {
        const asked = request({ ...options, headers: { 'content-type': 'application/json', ...headers } });
        asked.on('error', reject);
        asked.on('response', async (response) => {
          let text = '';
          for await (const chunk of response.setEncoding('utf8')) text += chunk;
          resolve(JSON.parse(text));
        });
        asked.end(body);
      });
    }
  });
}
