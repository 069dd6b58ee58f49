// The server's own TLS, with unmodified clients that verify its certificate.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp, isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { connected, eventually, freePort, next, startServer, subscribe } from './harness.mjs';

const CONNECTIONS = Number(process.env.FANFARE_TLS_CONNECTIONS ?? 1_000);
/** How many handshakes this process makes at a time. More would only wait for each other. */
const AT_ONCE = 50;
/** The names by which the tests reach the server. */
const OWN = ['localhost', '127.0.0.1'];

let folder;
let authority;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-tls-'));
  authority = join(folder, 'ca.pem');
  openssl('req', '-x509', ...newKey('ca.key'), '-days', '2', '-subj', '/CN=Test CA', '-out', authority);
  trust(await readFile(authority));
});

after(() => rm(folder, { recursive: true, force: true }));

test('pusher-js, its fallbacks and backends use TLS of the server itself, and an app that wants TLS is content', async (t) => {
  const server = await start(t, { settings: { tls_only: true } });
  const sdk = server.sdk({ useTLS: true, port: server.tlsPort });
  for (const [transport, overrides] of [
    ['wss', {}],
    ['xhr_streaming', server.fallbackOptions('xhr_streaming')],
    ['xhr_polling', server.fallbackOptions('xhr_polling')],
  ]) {
    const client = server.client({ forceTLS: true, wssPort: server.tlsPort, httpsPort: server.tlsPort, ...overrides });
    const channel = await subscribe(client, 'private-orders');
    const event = next(channel, 'shipped');
    await sdk.trigger('private-orders', 'shipped', { over: transport });
    assert.deepEqual(await event, { over: transport });
  }
  // pusher-js switches to TLS by itself when it is told 4000.
  const plain = server.client({ wssPort: server.tlsPort });
  await connected(plain);
  assert.ok(plain.connection.connection.transport.socket.url.startsWith('wss:'));
});

test('a certificate is replaced under many connections and a running publisher, and nobody notices', async (t) => {
  const server = await start(t);
  const before = await serial(server);
  const received = [];
  const closed = [];
  const clients = [];
  for (let first = 0; first < CONNECTIONS; first += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, CONNECTIONS - first) }, () => wss(server));
    clients.push(...some);
    const channels = await Promise.all(some.map((client) => subscribe(client, 'news')));
    for (const [index, client] of some.entries()) {
      const events = [];
      received.push(events);
      channels[index].bind('tick', ({ number }) => events.push(number));
      client.connection.bind('state_change', ({ current }) => closed.push(current));
    }
  }

  const sdk = server.sdk({ useTLS: true, port: server.tlsPort });
  let isPublishing = true;
  let published = 0;
  const publisher = (async () => {
    while (isPublishing) await sdk.trigger('news', 'tick', { number: (published += 1) });
  })();
  const publishedSome = async () => {
    const wanted = published + 3;
    while (published < wanted) await delay(10);
  };
  await publishedSome();

  // One file after the other, as most people do.
  await issue('new', [...OWN, 'new.example.com']);
  for (const kind of ['crt', 'key']) await copyFile(join(folder, `new.${kind}`), server.files[kind]);
  const swapped = Date.now();
  while ((await serial(server)) === before) await delay(20);
  const took = Date.now() - swapped;
  await publishedSome();
  isPublishing = false;
  await publisher;

  const all = Array.from({ length: published }, (_, index) => index + 1);
  await eventually(() => assert.ok(received.every((events) => events.length === published)));
  for (const events of received) assert.deepEqual(events, all);
  assert.deepEqual(closed, [], 'a connection has changed its state');
  console.log(`# ${clients.length} connections, ${published} events, new certificate after ${took} ms`);
  assert.ok(took < 1_000, `the new certificate came after ${took} ms`);
});

test('a broken pair is refused with a log line, and the old certificate stays until it is mended', async (t) => {
  const server = await start(t);
  const before = await serial(server);
  const client = wss(server);
  await connected(client);
  const other = await issue('other', OWN);
  await copyFile(other.key, server.files.key);
  process.kill(server.pid, 'SIGHUP');
  const refused = await eventually(async () => {
    const [certificate] = await certificates(server);
    assert.match(certificate.refused ?? '', /the key does not belong to the certificate/);
    return certificate;
  });
  assert.deepEqual(refused.names, OWN);
  assert.ok(refused.days_left > 1 && refused.days_left < 3, `${refused.days_left} days`);
  assert.equal(await serial(server), before);
  await rename(other.crt, server.files.crt);
  process.kill(server.pid, 'SIGHUP');
  await eventually(async () => assert.notEqual(await serial(server), before));
  assert.equal((await certificates(server))[0].refused, null);
  assert.equal(client.connection.state, 'connected');
  server.disconnectClients();
  const { log } = await server.end();
  assert.match(log, /a certificate was not replaced: its files hold one that cannot be served, and the one before stays/);
  assert.match(log, /a certificate was replaced: new connections get it/);
});

test('clients resume their sessions after the certificate was replaced', async (t) => {
  const server = await start(t);
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const before = await serial(server);
    const session = await sessionOf(server, version);
    const { key, crt } = await issue(version, OWN);
    await copyFile(crt, server.files.crt);
    await copyFile(key, server.files.key);
    await eventually(async () => assert.notEqual(await serial(server), before));
    const socket = await dial(server, { session, maxVersion: version });
    assert.ok(socket.isSessionReused(), version);
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    assert.match(Buffer.concat(await socket.toArray()).toString(), /^HTTP\/1.1 200 OK/);
  }
  const text = await (await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${server.token}` } })).text();
  assert.match(text, /fanfare_tls_handshakes_total\{outcome="resumed"\} 2/);
  assert.match(text, /fanfare_tls_certificate_days_left\{name="localhost",source="[^"]*tls.crt"\} (1\.\d+|2\.0)/);
});

test('each client gets the certificate of the name that it asks for', async (t) => {
  const two = await issue('two', ['*.example.org']);
  const list = `[{certificate="${two.crt}",key="${two.key}"}]`;
  const server = await start(t, { env: { FANFARE_TLS_CERTIFICATES: list } });
  for (const [servername, name] of [
    ['localhost', 'DNS:localhost, IP Address:127.0.0.1'],
    ['a.example.org', 'DNS:*.example.org'],
    ['unknown.example', 'DNS:localhost, IP Address:127.0.0.1'],
  ]) {
    const socket = await dial(server, { servername, checkServerIdentity: () => undefined });
    assert.equal(socket.getPeerCertificate().subjectaltname, name);
    socket.destroy();
  }
});

test('what is wrong with a connection to the port is answered, and others are served', async (t) => {
  const server = await start(t, { env: { FANFARE_TLS_MIN_VERSION: '1.3' } });
  const plain = await fetch(`http://localhost:${server.tlsPort}/`);
  assert.equal(plain.status, 400);
  assert.match(await plain.text(), /This port speaks TLS.*https:\/\//);
  await assert.rejects(fetch(`https://localhost:${server.port}/`));
  for (const kind of ['plain_http', 'tls_hello']) await eventually(() => assert.match(server.log, new RegExp(`kind="${kind}"`)));

  await assert.rejects(dial(server, { maxVersion: 'TLSv1.2' }), /protocol version/);
  await assert.rejects(dial(server, { ALPNProtocols: ['h3'] }), /no application protocol/);

  // Half a hello, nothing at all, and bytes of another protocol hold up nobody.
  const silent = await raw(server);
  const half = await raw(server, Buffer.from('1603010200010001fc0303', 'hex'));
  const oversized = await raw(server, Buffer.from('160303ffff', 'hex'));
  const noise = await raw(server, Buffer.alloc(64));
  await Promise.all([oversized, noise].map((socket) => socket.closed || once(socket, 'close')));
  await connected(wss(server));
  silent.destroy();
  half.destroy();
});

test('a connection ends with a word of TLS, so that no client takes it for a cut', async (t) => {
  const server = await start(t);
  const socket = await dial(server);
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  const chunks = await socket.toArray();
  assert.match(Buffer.concat(chunks).toString(), /^HTTP\/1.1 200 OK/);
  const script = `printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -connect localhost:${server.tlsPort} 2>&1`;
  const said = execFileSync('sh', ['-c', script]).toString();
  assert.doesNotMatch(said, /unexpected eof/);
});

test('the doctor says what the files hold and what the port shows', async (t) => {
  const server = await start(t);
  const found = async () => {
    // It ends with 1 if something does not work.
    const printed = await server.cli('doctor', '--json').catch(({ stdout }) => stdout);
    return JSON.parse(printed).findings.filter(({ check }) => check.startsWith('tls.'));
  };
  const severities = (findings) => findings.map(({ check, severity }) => `${check} ${severity}`);
  // Nobody but this process trusts the authority, and two days of a certificate's two are plenty.
  const well = ['tls.key_file ok', 'tls.files ok', 'tls.expiry ok', 'tls.chain warning', 'tls.served ok'];
  assert.deepEqual(severities(await found()), well);
  const other = await issue('doctor', OWN);
  await copyFile(other.key, server.files.key);
  const broken = await found();
  assert.deepEqual(severities(broken), ['tls.key_file ok', 'tls.files failure']);
  assert.match(broken[1].found, /the key does not belong to the certificate/);
});

test('a command whose machine does not know the authority says what to do, in one line', async (t) => {
  const server = await start(t);
  const token = join(folder, 'token');
  await writeFile(token, server.token);
  const list = ['app', 'list', '--server', `https://localhost:${server.tlsPort}`, '--token-file', token];
  const { stderr } = await server.cli(...list).then(() => assert.fail('nobody told it of the authority'), (error) => error);
  assert.match(stderr, /^fanfare: cannot reach https:.* SSL_CERT_FILE; .*\n$/);
  server.env = { ...server.env, SSL_CERT_FILE: authority };
  assert.match(await server.cli(...list), new RegExp(server.app.id));
});

test('browsers that ask for a page over plain HTTP are sent to TLS, and nobody else is', async (t) => {
  const server = await start(t, { env: { FANFARE_TLS_REDIRECT: 'true' } });
  const page = await fetch(`${server.url}/docs`, { headers: { accept: 'text/html' }, redirect: 'manual' });
  assert.equal(page.status, 308);
  assert.equal(page.headers.get('location'), `https://127.0.0.1:${server.tlsPort}/docs`);
  assert.ok((await fetch(`${server.url}/docs`)).ok);
  await connected(server.client());
});

async function start(t, { env = {}, ...options } = {}) {
  const own = await mkdtemp(join(folder, 'server-'));
  const files = { crt: join(own, 'tls.crt'), key: join(own, 'tls.key') };
  const issued = await issue('first', OWN);
  await copyFile(issued.crt, files.crt);
  await copyFile(issued.key, files.key);
  const tlsPort = await freePort();
  const server = await startServer({
    ...options,
    env: {
      FANFARE_TLS_CERTIFICATE: files.crt,
      FANFARE_TLS_KEY: files.key,
      FANFARE_TLS_LISTEN: `127.0.0.1:${tlsPort}`,
      FANFARE_OWNER_PASSWORD: PASSWORD,
      ...env,
    },
  });
  t.after(() => server.stop());
  const { access_token: token } = await post(`${server.url}/api/v1/sessions`, { name: 'owner', password: PASSWORD });
  return Object.assign(server, { files, tlsPort, token });
}

const PASSWORD = 'correct horse battery staple';

async function post(url, body) {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${answer.status} ${url}`);
  return answer.json();
}

async function certificates(server) {
  const headers = { authorization: `Bearer ${server.token}` };
  const answer = await fetch(`https://localhost:${server.tlsPort}/api/v1/server/certificates`, { headers });
  return (await answer.json()).certificates;
}

function wss(server) {
  return server.client({ forceTLS: true, wssPort: server.tlsPort });
}

async function dial(server, options) {
  const socket = tls.connect({ host: '127.0.0.1', port: server.tlsPort, servername: 'localhost', ...options });
  await once(socket, 'secureConnect');
  return socket;
}

async function raw(server, bytes = '') {
  const socket = connectTcp(server.tlsPort, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  socket.write(bytes);
  return socket.resume();
}

/** The serial number of the certificate that a new connection gets. */
async function serial(server) {
  const socket = await dial(server);
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

async function sessionOf(server, maxVersion) {
  const socket = await dial(server, { maxVersion });
  if (maxVersion === 'TLSv1.2') {
    const session = socket.getSession();
    socket.destroy();
    return session;
  }
  // Tickets come after the handshake.
  socket.resume();
  const [session] = await once(socket, 'session');
  socket.destroy();
  return session;
}

/** Has the authority issue a certificate for these names. */
async function issue(name, names) {
  const [key, request, crt, extensions] = ['key', 'csr', 'crt', 'ext'].map((kind) => join(folder, `${name}.${kind}`));
  openssl('req', ...newKey(`${name}.key`), '-subj', `/CN=${names[0]}`, '-out', request);
  await writeFile(extensions, `subjectAltName=${names.map((each) => `${isIP(each) ? 'IP' : 'DNS'}:${each}`).join(',')}\n`);
  const issuer = ['-CA', authority, '-CAkey', join(folder, 'ca.key'), '-CAcreateserial'];
  openssl('x509', '-req', '-in', request, ...issuer, '-days', '2', '-extfile', extensions, '-out', crt);
  return { key, crt };
}

function newKey(file) {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', join(folder, file)];
}

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Lets all clients of this process trust a further authority, as an operating system would. */
function trust(certificate) {
  const create = tls.createSecureContext;
  tls.createSecureContext = (options) => {
    const secure = create(options);
    secure.context.addCACert(certificate);
    return secure;
  };
}
