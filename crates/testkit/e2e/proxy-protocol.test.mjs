// HAProxy in front, which forwards bytes and names the client in the PROXY protocol, in both versions and with TLS.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, next, nextErrorCode, startServer, subscribe } from './harness.mjs';
import { makeCertificate, missing } from './proxy.mjs';

const PASSWORD = 'correct horse battery';
// All of these are this machine. The proxy speaks to the server from an address of its own, and everybody else is no proxy.
const PROXY = '127.0.0.3';
const OPERATOR = '127.0.0.5';

describe('behind HAProxy that forwards bytes', { skip: missing('haproxy') }, () => {
  let server, proxy, folder;
  const ports = {};

  before(async () => {
    server = await startServer({
      settings: { tls_only: true },
      env: {
        FANFARE_LISTEN_PROXY_PROTOCOL: 'true',
        FANFARE_HTTP_TRUSTED_PROXIES: PROXY,
        FANFARE_OWNER_PASSWORD: PASSWORD,
      },
    });
    folder = await mkdtemp(join(tmpdir(), 'fanfare-proxy-'));
    await makeCertificate(folder);
    const ways = { 'send-proxy': '', 'send-proxy-v2': '', 'send-proxy-v2-ssl': ` ssl crt ${folder}/both.pem` };
    let config = 'global\n log stdout format raw local0\n';
    config += 'defaults\n mode tcp\n log global\n option log-health-checks\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n';
    for (const [way, tls] of Object.entries(ways)) {
      ports[way] = await freePort();
      config += `listen ${way}\n bind 127.0.0.1:${ports[way]}${tls}\n option httpchk GET /readyz\n`;
      config += ` server node 127.0.0.1:${server.port} ${way} source ${PROXY} check inter 200ms\n`;
    }
    ports.without = await freePort();
    config += `listen without\n bind 127.0.0.1:${ports.without}\n server node 127.0.0.1:${server.port} source ${PROXY}\n`;
    await writeFile(join(folder, 'haproxy.cfg'), config);
    proxy = spawn('haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')], { stdio: ['ignore', 'pipe', 'pipe'] });
    proxy.log = '';
    for (const stream of [proxy.stdout, proxy.stderr]) stream.on('data', (chunk) => (proxy.log += chunk));
    for (let attempt = 0; (await ask('send-proxy', '/readyz').catch(() => ({}))).status !== 200; attempt += 1) {
      assert.ok(attempt < 200 && proxy.exitCode === null, proxy.log);
      await delay(25);
    }
  });
  after(async () => {
    if (proxy && proxy.exitCode === null) {
      const ended = once(proxy, 'close');
      proxy.kill('SIGKILL');
      await ended;
    }
    if (folder) await rm(folder, { recursive: true, force: true });
    await server?.stop();
  });

  for (const way of ['send-proxy', 'send-proxy-v2']) {
    test(`with ${way}, the address in the audit log is the client’s, whatever it says of itself`, async () => {
      const body = JSON.stringify({ name: 'owner', password: PASSWORD });
      const headers = { 'x-forwarded-for': '203.0.113.1', 'content-type': 'application/json' };
      const signedIn = await ask(way, '/api/v1/sessions', { method: 'POST', body, headers });
      assert.equal(signedIn.status, 201, signedIn.text);
      const { access_token } = JSON.parse(signedIn.text);
      const listed = await ask(way, '/api/v1/audit?limit=100', { headers: { authorization: `Bearer ${access_token}` } });
      const entry = JSON.parse(listed.text).items.find(({ action }) => action.startsWith('session.'));
      assert.equal(entry?.actor.address, OPERATOR, listed.text);
    });
  }

  test('a client that speaks TLS to the proxy is known to, so that an app that wants TLS takes it', async () => {
    assert.equal(await nextErrorCode(server.client({ wsPort: ports['send-proxy-v2'] })), 4000);
    const client = server.client({ forceTLS: true, wssPort: ports['send-proxy-v2-ssl'] });
    const channel = await subscribe(client, 'private-news');
    const received = next(channel, 'headline');
    await server.sdk().trigger('private-news', 'headline', { text: 'Zürich 🎉' });
    assert.deepEqual(await received, { text: 'Zürich 🎉' });
  });

  test('health checks of the proxy are answered', async () => {
    // Each is a connection for which the proxy names nobody.
    for (const way of Object.keys(ports).filter((name) => name !== 'without')) {
      const checked = new RegExp(`Health check for server ${way}/node (succeeded|failed)[^,]*`);
      for (let attempt = 0; !checked.test(proxy.log); attempt += 1) {
        assert.ok(attempt < 200, proxy.log);
        await delay(25);
      }
      assert.match(proxy.log.match(checked)[0], /succeeded/);
    }
  });

  test('a proxy without headers is told so', async () => {
    const { status, text } = await ask('without', '/readyz');
    assert.equal(status, 400);
    assert.match(text, /listen_proxy_protocol = true requires/);
  });

  /** A request through the proxy, from an address of this machine. */
  function ask(way, path, { method = 'GET', body, headers = {} } = {}) {
    const options = { host: '127.0.0.1', port: ports[way], path, method, headers, localAddress: OPERATOR, agent: false };
    return new Promise((resolve, reject) => {
      const asked = request(options);
      asked.on('error', reject);
      asked.on('response', async (response) => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        resolve({ status: response.statusCode, text });
      });
      asked.end(body);
    });
  }
});
