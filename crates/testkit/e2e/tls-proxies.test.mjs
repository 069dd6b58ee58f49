// Directly in front of Fanfare and with the PROXY protocol: hitch and stunnel with their files from deploy/, which end TLS, and HAProxy,
// which forwards TLS as it is to `tls.listen`.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './cluster/processes.mjs';
import { connected, eventually, freePort, next, nextErrorCode, startServer, subscribe } from './harness.mjs';
import { makeCertificate, missingProgram } from './proxy.mjs';

const DEPLOY = new URL('../../../deploy/', import.meta.url);
const ROOT = process.getuid() === 0;
// All of these are this machine. The operator speaks to the proxy from an address of its own, and the proxy to the server from this one.
const PROXY = '127.0.0.1';
const OPERATOR = '127.0.0.5';

const FRONTS = {
  hitch: {
    saysTls: true,
    file: 'hitch.conf',
    command: (file) => ['hitch', '--config', file],
    changes: ({ port, to, folder }) => [
      ['frontend = "[*]:443"', `frontend = "[127.0.0.1]:${port}"`],
      // What the file says to do if Fanfare is the next one.
      ['backend  = "[127.0.0.1]:6086"', `backend = "[127.0.0.1]:${to}"`],
      ['alpn-protos = "h2, http/1.1"', 'alpn-protos = "http/1.1"'],
      ['/etc/hitch/fanfare.pem', `${folder}/both.pem`],
      ...(ROOT ? [] : [['user = "_hitch"', ''], ['group = "_hitch"', '']]),
    ],
  },
  stunnel: {
    // It speaks version 1 of the protocol, which has no word for it.
    saysTls: false,
    file: 'stunnel.conf',
    command: (file) => ['stunnel', file],
    changes: ({ port, to, folder }) => [
      ['accept  = :::443', `accept  = 127.0.0.1:${port}`],
      ['connect = 127.0.0.1:6086', `connect = 127.0.0.1:${to}`],
      ['/etc/ssl/fanfare/', `${folder}/`],
      ...(ROOT ? [] : [['setuid = stunnel4', ''], ['setgid = stunnel4', '']]),
    ],
  },
};
for (const way of ['send-proxy', 'send-proxy-v2']) {
  FRONTS[`haproxy, ${way}`] = {
    text: ({ port, to }) =>
      'global\n log stdout format raw local0\n' +
      'defaults\n mode tcp\n log global\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n' +
      `listen tls\n bind 127.0.0.1:${port}\n server node 127.0.0.1:${to} ${way} check inter 200ms\n`,
    command: (file) => ['haproxy', '-db', '-f', file],
    forwardsTls: true,
    saysTls: true,
  };
}

for (const [name, front] of Object.entries(FRONTS)) {
  describe(name, { skip: missingProgram(name.split(',')[0]) }, () => {
    let server, proxy, folder, port;

    before(async () => {
      folder = await temporaryFolder('front');
      // Some daemons read there as a user of their own.
      await chmod(folder, 0o755);
      await makeCertificate(folder);
      const tlsPort = await freePort();
      port = await freePort();
      server = await startServer({
        settings: { tls_only: Boolean(front.forwardsTls) },
        settings: { tls_only: front.saysTls },
        env: {
          FANFARE_LISTEN_PROXY_PROTOCOL: 'true',
          FANFARE_HTTP_TRUSTED_PROXIES: PROXY,
          // The harness is no proxy, although it has the address of one.
          FANFARE_OPS_LISTEN: `127.0.0.1:${await freePort()}`,
          FANFARE_TLS_CERTIFICATE: join(folder, 'fullchain.pem'),
          FANFARE_TLS_KEY: join(folder, 'privkey.pem'),
          FANFARE_TLS_LISTEN: `127.0.0.1:${tlsPort}`,
        },
      });
      const places = { port, folder, to: front.forwardsTls ? tlsPort : server.port };
      const file = join(folder, 'front.conf');
      await writeFile(file, front.text?.(places) ?? (await changed(front, places)));
      const [program, ...args] = front.command(file);
      proxy = launch(program, args, { cwd: folder });
      for (let attempt = 0; (await ask('/readyz').catch(() => ({}))).status !== 200; attempt += 1) {
        assert.ok(attempt < 200 && !hasEnded(proxy), `${proxy.log}\n${server.log}`);
        await delay(25);
      }
    });
    after(async () => {
      server?.disconnectClients();
      if (proxy) await end(proxy, 'SIGTERM', 2_000);
      if (folder) await removeFolder(folder);
      await server?.stop();
    });

    const through = (overrides) => server.client({ forceTLS: true, wssPort: port, ...overrides });

    test('pusher-js subscribes, sends and receives over WebSockets and the fallbacks, and backends publish', async () => {
      const sdk = server.sdk({ useTLS: true, port });
      for (const transport of ['ws', 'xhr_streaming', 'xhr_polling']) {
        const fallback = { enabledTransports: [transport], httpHost: '127.0.0.1', httpsPort: port };
        const [one, two] = [through(transport === 'ws' ? {} : fallback), through()];
        const [here, there] = await Promise.all([one, two].map((client) => subscribe(client, 'private-news')));
        const received = next(here, 'headline');
        await sdk.trigger('private-news', 'headline', { text: 'Zürich 🎉', transport });
        assert.deepEqual(await received, { text: 'Zürich 🎉', transport });
        const heard = next(there, 'client-hello');
        here.trigger('client-hello', { from: 'x'.repeat(9_000) });
        assert.equal((await heard).from.length, 9_000);
      }
    });

    test('an app that wants TLS refuses clients of a proxy that does not say that they speak it', { skip: front.saysTls }, async () => {
      await server.cli('app', 'update', server.app.id, '--setting', 'tls_only=true');
      // The change reaches the server within a second.
      await eventually(async () => {
        const client = through();
        const code = await Promise.race([nextErrorCode(client), connected(client).then(() => undefined)]);
        client.disconnect();
        assert.equal(code, 4000);
      });
    });

    test('the address in the log is the client’s, whatever it says of itself', async () => {
      const { status } = await ask(`/apps/${server.app.id}/channels`, { headers: { 'x-forwarded-for': '203.0.113.1' } });
      assert.equal(status, 401);
      await eventually(() => assert.match(server.log, new RegExp(`address=${OPERATOR}\\b`)));
      assert.doesNotMatch(server.log, /203\.0\.113\.1/);
    });

    /** A request through the proxy, from an address of this machine. */
    function ask(path, { method = 'GET', body, headers = {} } = {}) {
      const options = { host: '127.0.0.1', port, path, method, headers, localAddress: OPERATOR, agent: false, rejectUnauthorized: false };
      return new Promise((resolve, reject) => {
        const asked = request(options);
        asked.on('error', reject);
        asked.setTimeout(5_000, () => asked.destroy(new Error('no answer')));
        asked.on('response', async (response) => {
          let text = '';
          for await (const chunk of response.setEncoding('utf8')) text += chunk;
          resolve({ status: response.statusCode, text });
        });
        asked.end(body);
      });
    }
  });
}

/** The file as it is, but for ports, paths, and what it says of other next ones. */
async function changed({ file, changes }, places) {
  let text = await readFile(new URL(file, DEPLOY), 'utf8');
  for (const [from, to] of changes(places)) {
    assert.ok(text.includes(from), `${file} has no ${from}`);
    text = text.replaceAll(from, () => to);
  }
  return text;
}
