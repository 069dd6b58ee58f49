// Starts the built server, speaks to it only through unmodified clients, and takes everything down again.
import { execFile, spawn } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import PusherHttp from 'pusher';
import PusherJs from 'pusher-js';

const HOST = '127.0.0.1';
// scripts/known-to-work runs many servers beside each other, each of which takes longer.
const TIMEOUT = Number(process.env.FANFARE_TEST_TIMEOUT ?? 10_000);
// The unmodified pusher-js waits 15 s after an attempt to connect that failed, and 30 s after the second. A restart that takes
// longer than the client needs for its first attempt is no failure of either.
const CLIENT_PATIENCE = 60_000;
const run = promisify(execFile);
const running = new Set();

// A test file that dies half-way must not leave a server behind.
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * Starts a server of its own for a test file. With `app: false` the data folder is left empty. With `held` another process holds its
 * listening socket, as systemd does with a socket unit: then no attempt of a client fails while the server restarts. One that fails
 * costs pusher-js 15 seconds. `also` are more addresses to listen on. `port` is for tests in which somebody must know it beforehand.
 */
export async function startServer({ app = true, settings = {}, env = {}, held = false, also = [], port } = {}) {
  const server = new Server(await mkdtemp(join(tmpdir(), 'fanfare-e2e-')), env, held, also);
  server.port = port;
  try {
    if (app) server.app = await server.createApp({ id: '1234567', key: 'e2e-key', secret: 'e2e-secret' });
    for (const [name, value] of Object.entries(settings)) {
      await server.cli('app', 'update', server.app.id, '--setting', `${name}=${value}`);
    }
    await server.start();
  } catch (error) {
    await server.end('SIGKILL');
    await rm(server.dataDir, { recursive: true, force: true });
    throw error;
  }
  return server;
}

class Server {
  #clients = new Set();
  #sockets = new Set();
  #child;
  #holder;
  #log = '';

  constructor(dataDir, env, held, also) {
    this.dataDir = dataDir;
    this.env = env;
    this.also = also;
    this.#holder = held ? new SocketHolder() : undefined;
  }

  get url() {
    return `http://${HOST}:${this.port}`;
  }

  /** Where it says whether it is ready: at the address of operators, if it has one. */
  get #readyUrl() {
    const { FANFARE_OPS_LISTEN: ops } = this.env;
    return ops ? `http://${ops}/readyz` : `${this.url}/readyz`;
  }

  /** What it has logged since its last start. */
  get log() {
    return this.#log;
  }

  get pid() {
    return this.#child.pid;
  }

  async start() {
    const portIsOurs = this.port === undefined;
    for (let attempt = 1; ; attempt += 1) {
      if (portIsOurs) this.port = await freePort();
      try {
        return await this.#launch();
      } catch (error) {
        // Between finding a port free and binding it, somebody else may have taken it.
        if (!portIsOurs || attempt === 5 || !/address already in use/i.test(error.message)) throw error;
      }
    }
  }

  async #launch() {
    this.#log = '';
    const options = this.#surroundings();
    const child = this.#holder
      ? this.#holder.start(this.port, [binary(), 'serve'], options)
      : spawn(binary(), ['serve'], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (this.#log += chunk));

    const deadline = Date.now() + TIMEOUT;
    while (!(await answersOk(this.#readyUrl))) {
      if (hasEnded(child)) {
        if (!child.stderr.closed) await once(child.stderr, 'close');
        throw new Error(`the server ended before it was ready:\n${this.#log}`);
      }
      if (Date.now() > deadline) throw new Error(`the server is not ready after ${TIMEOUT} ms:\n${this.#log}`);
      await delay(25);
    }
  }

  /** Ends the process with `signal` and says how it went. Clients stay: they are there to see it happen. */
  async end(signal = 'SIGTERM') {
    const child = this.#child;
    if (!child || hasEnded(child)) return { code: child?.exitCode, log: this.#log };
    const ended = once(child, 'close');
    child.kill(signal);
    const tooLong = setTimeout(() => child.kill('SIGKILL'), TIMEOUT);
    const [code] = await ended;
    clearTimeout(tooLong);
    return { code, log: this.#log };
  }

  /** The end of a test file: an orderly shutdown that leaves nothing behind, or a failure. */
  async stop() {
    this.disconnectClients();
    const { code, log } = await this.end();
    await this.#holder?.stop();
    await rm(this.dataDir, { recursive: true, force: true });
    if (/panicked at/.test(log)) throw new Error(`the server panicked:\n${log}`);
    if (this.#child && code !== 0) throw new Error(`the server ended with ${code} on SIGTERM:\n${log}`);
  }

  /** Runs the program's own command line against the same data and returns what it printed. */
  async cli(...args) {
    const { stdout } = await run(binary(), args, { ...this.#surroundings(), timeout: TIMEOUT });
    return stdout;
  }

  /** A running server has the app within a second, and with it all its settings: one that is changed later comes later. */
  async createApp({ id, key, secret, settings = {} }) {
    const flags = ['--name', `App ${id}`, '--id', id, '--key', key, '--secret', secret];
    const set = Object.entries(settings).flatMap(([name, value]) => ['--setting', `${name}=${value}`]);
    await this.cli('app', 'create', ...flags, ...set, '--client-events', '--json');
    return { id, key, secret };
  }

  /** npm `pusher`, as a backend would use it. */
  sdk({ app = this.app, ...overrides } = {}) {
    const { id, key, secret } = app;
    return new PusherHttp({ appId: id, key, secret, host: HOST, port: this.port, useTLS: false, ...overrides });
  }

  /** What every pusher-js client of these tests is configured with; Laravel Echo takes the same. */
  clientOptions() {
    return { cluster: 'x', wsHost: HOST, wsPort: this.port, forceTLS: false, enabledTransports: ['ws'] };
  }

  /** What makes a client use one of the HTTP fallbacks, as behind a proxy that lets no WebSocket through. */
  fallbackOptions(transport) {
    return { httpHost: HOST, httpPort: this.port, enabledTransports: [transport] };
  }

  /** A pusher-js client. `user` is who the app's auth endpoint will say it is on presence channels. */
  client({ key = this.app.key, user, sdk = this.sdk(), ...overrides } = {}) {
    const customHandler = ({ socketId, channelName }, callback) =>
      callback(null, sdk.authorizeChannel(socketId, channelName, user));
    const options = { ...this.clientOptions(), channelAuthorization: { customHandler }, ...overrides };
    return this.track(new PusherJs(key, options));
  }

  /** Clients made elsewhere (by Echo) that must be gone at the end of the test as well. */
  track(client) {
    this.#clients.add(client);
    const { connection } = client;
    connection.bind('connected', () => this.#sockets.add(connection.connection.transport.socket));
    return client;
  }

  disconnectClients() {
    this.#clients.forEach((client) => client.disconnect());
    this.#clients.clear();
    // In Node, pusher-js starts a timer of 30 s when it closes a socket that the server has closed already. It does
    // nothing, but the process would wait for it.
    this.#sockets.forEach((socket) => socket._closeTimer?.unref());
    this.#sockets.clear();
  }

  /** A request signed by hand, for what no SDK would send: `alter` changes what is signed, `body` goes out as given. */
  async signed(method, path, { body, params = {}, app = this.app, alter = (query) => query } = {}) {
    const fullPath = `/apps/${app.id}${path}`;
    const query = { ...params, auth_key: app.key, auth_timestamp: seconds(), auth_version: '1.0' };
    if (body !== undefined) query.body_md5 = createHash('md5').update(body).digest('hex');
    const ordered = Object.entries(alter(query)).sort(([a], [b]) => (a < b ? -1 : 1));
    const text = ordered.map(([name, value]) => `${name}=${value}`).join('&');
    const signature = createHmac('sha256', app.secret).update(`${method}\n${fullPath}\n${text}`).digest('hex');
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const url = `${this.url}${fullPath}?${text}&auth_signature=${signature}`;
    const response = await fetch(url, { method, body, headers, signal: AbortSignal.timeout(TIMEOUT) });
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
  }

  // Neither the environment nor a configuration file of whoever runs the tests may change what is tested.
  #surroundings() {
    const env = {
      PATH: process.env.PATH,
      FANFARE_LISTEN: [`${HOST}:${this.port ?? 0}`, ...this.also].join(', '),
      FANFARE_DATA_DIR: this.dataDir,
      FANFARE_DEMO: 'false',
      FANFARE_DRAIN_PERIOD: '0',
      ...this.env,
    };
    return { env, cwd: this.dataDir };
  }
}

/** A process that holds a listening socket and starts a server on it as often as it is told to. */
class SocketHolder {
  #process;
  #lines;

  /** Starts the server, which then looks like a child of ours. */
  start(port, command, options) {
    if (!this.#process) {
      const script = fileURLToPath(new URL('./socket-holder.py', import.meta.url));
      this.#process = spawn('python3', [script, String(port), ...command], { ...options, stdio: 'pipe' });
      running.add(this.#process);
      this.#lines = createInterface({ input: this.#process.stdout });
    }
    const { stdin, stdout, stderr } = this.#process;
    const child = Object.assign(new EventEmitter(), { exitCode: null, signalCode: null, stdout, stderr });
    child.kill = (signal) => stdin.write(`${signal}\n`);
    this.#lines.once('line', (line) => {
      child.exitCode = Number(line.split(' ')[1]);
      for (const event of ['exit', 'close']) child.emit(event, child.exitCode);
    });
    stdin.write('start\n');
    return child;
  }

  async stop() {
    this.#process.stdin.end();
    await once(this.#process, 'close');
    running.delete(this.#process);
  }
}

/**
 * The app's own auth endpoint, for channels and for users, as a web framework would offer it. `userOf` answers undefined to
 * refuse.
 */
export async function startAuthEndpoint(server, userOf) {
  return startHttp(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const form = new URLSearchParams(body);
    const [socketId, channel] = [form.get('socket_id'), form.get('channel_name')];
    const user = userOf(request, channel);
    if (!user) return response.writeHead(403).end();
    const data = channel?.startsWith('presence-') ? user : undefined;
    const sdk = server.sdk();
    const auth = channel ? sdk.authorizeChannel(socketId, channel, data) : sdk.authenticateUser(socketId, user);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(auth));
  });
}

/** A small HTTP server of the test's own. What its handler throws fails the test, and no client waits for its answer. */
export async function startHttp(handler) {
  const http = createHttpServer(async (request, response) => {
    try {
      await handler(request, response);
    } catch (error) {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error.stack));
      throw error;
    }
  }).listen(0, HOST);
  // The end of an idle connection would meet the next request on it.
  http.keepAliveTimeout = CLIENT_PATIENCE;
  await once(http, 'listening');
  return {
    url: `http://${HOST}:${http.address().port}`,
    async stop() {
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    },
  };
}

/** The next call of a listener that `listen` puts in place: its first argument, or a failure when there is none. */
export function heard(what, listen) {
  const promise = new Promise((resolve, reject) => {
    const late = new Error(`no ${what} within ${CLIENT_PATIENCE} ms`);
    const timer = setTimeout(() => reject(late), CLIENT_PATIENCE).unref();
    listen((data) => {
      clearTimeout(timer);
      resolve(data);
    });
  });
  // A test that has failed already no longer awaits this one; that is no second failure.
  promise.catch(() => {});
  return promise;
}

/** The next `event` of anything with pusher-js' `bind`; with `metadata`, all the arguments of the listener. */
export function next(emitter, event, { metadata = false } = {}) {
  return heard(`${event} on ${emitter.name ?? 'the connection'}`, (resolve) => {
    const listener = (...all) => {
      emitter.unbind(event, listener);
      resolve(metadata ? all : all[0]);
    };
    emitter.bind(event, listener);
  });
}

/**
 * The code of the next error a client reports: null when it is about a command and the connection stays. pusher-js
 * wraps the errors that ended a connection once more than the others.
 */
export async function nextErrorCode(client) {
  return errorCode(await next(client.connection, 'error'));
}

export function errorCode(error) {
  return (error.error ?? error).data?.code;
}

/** Everything from now on, as `[event, data]`, but for what the library itself says. */
export function record(channel) {
  const seen = [];
  channel.bind_global((event, data) => {
    if (!event.startsWith('pusher:')) seen.push([event, data]);
  });
  return seen;
}

/** Waits until the client is connected; the result is its socket id. */
export async function connected(client) {
  if (client.connection.state !== 'connected') await next(client.connection, 'connected');
  return client.connection.socket_id;
}

/** Subscribes and waits for the answer. A refusal is an error. */
export async function subscribe(client, name) {
  const channel = client.subscribe(name);
  if (channel.subscribed) return channel;
  const refused = (error) => {
    throw new Error(`subscription to ${name} refused: ${JSON.stringify(error)}`);
  };
  await Promise.race([
    next(channel, 'pusher:subscription_succeeded'),
    next(channel, 'pusher:subscription_error').then(refused),
  ]);
  return channel;
}

/** Signs in and waits until events to the user arrive; for one that has signed in before, until they do again. */
export async function signedIn(client) {
  await connected(client);
  client.signin();
  await client.user.signinDonePromise;
  const channel = client.user.serverToUserChannel;
  if (!channel) throw new Error('the sign-in was refused');
  if (!channel.subscribed) await next(channel, 'pusher:subscription_succeeded');
  return client;
}

/** The frames a connected client gets from now on, as they are on the wire. */
export function wireFrames(client) {
  const frames = [];
  client.connection.connection.transport.bind('message', ({ data }) => frames.push(JSON.parse(data)));
  return frames;
}

/** The result of a step that has no limit of its own, or a failure with its name after `limit` milliseconds. */
export async function inTime(step, limit, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${step}: not done within ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Changes to apps and keys reach a running node within a second, so the first attempts may fail. */
export async function eventually(attempt, limit = 5_000) {
  const deadline = Date.now() + limit;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(50);
    }
  }
}

export function seconds() {
  return Math.floor(Date.now() / 1000);
}

export function binary() {
  if (!process.env.FANFARE_BIN) throw new Error('FANFARE_BIN must hold the path of the built binary');
  return process.env.FANFARE_BIN;
}

function hasEnded(child) {
  return child.exitCode !== null || child.signalCode !== null;
}

async function answersOk(url) {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1000) })).ok;
  } catch {
    return false;
  }
}

// Below the range that systems hand out to outgoing connections: a port from that range could be taken by one of our
// own clients in the moment between a server's end and its restart on the same port.
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    // Neither fetch() nor a browser sends anything to a port that other protocols are known for.
    if (port === 10_080) continue;
    const probe = createTcpServer().listen(port, HOST);
    const free = await once(probe, 'listening').then(() => true, () => false);
    if (!free) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
