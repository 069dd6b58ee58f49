// What every server SDK is put through, by a program of a few lines that uses it.
//
// A program is started once for each call. Its argument is the call as JSON, with `call` as its name; the variable TARGET has `host`,
// `port`, `id`, `key` and `secret`. It prints one line of JSON: what the SDK returns, `{"notOffered":true}`, or `{"error":"..."}`.
import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual, promisify } from 'node:util';
import { connected, inTime, next, record, startServer, subscribe } from '../e2e/harness.mjs';
import { startReceiver } from '../e2e/webhook-receiver.mjs';
import { installSoftware, programOf } from './client-row.mjs';

const run = promisify(execFile);
/** The longest that one call may take, with the start of its program. */
const CALL_TIMEOUT = 60_000;
const EVENT_TIMEOUT = 10_000;
/** What has been lost on the way somewhere: quotes, letters beyond ASCII, beyond 16 bits, line ends. */
const DATA = { text: 'a "quoted" é 😀\n\\', number: 1.5, list: [1, null, true] };
const ADA = { user_id: 'ada', user_info: { name: 'Ada é' } };

export const steps = {
  publish: { title: 'publishes', needed: true },
  read: { title: 'reads', needed: true },
  auth: { title: 'authorizes', needed: true },
  users: { title: 'users', needed: true },
  webhooks: { title: 'webhooks', needed: true },
  restart: { title: 'restart', needed: true },
};

class NotOffered extends Error {}

export function sdkRow(row) {
  return { ...row, run: async (context) => runSdk(row, await installSoftware(row, context.temporary), context) };
}

export async function runSdk(row, software, { say }) {
  const server = await startServer({ env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' } });
  const receiver = await startReceiver({ app: server.app });
  try {
    await server.cli('webhook', 'create', '--app', server.app.id, '--url', receiver.url);
    say(`runs with ${software.version}`);
    const sdk = new Sdk(row, software, server);
    const outcomes = {};
    for (const [name, step] of Object.entries({ publish, read, auth, users, webhooks, restart })) {
      outcomes[name] = await step({ sdk, server, receiver }).then((said) => said ?? 'yes', (error) => {
        if (error instanceof NotOffered) return 'not offered';
        say(`${name}: ${error.stack}`);
        return `no: ${error.message.split('\n')[0]}`;
      });
      server.disconnectClients();
    }
    return { version: software.version, steps: outcomes };
  } finally {
    await receiver.stop();
    await server.stop();
  }
}

class Sdk {
  constructor(row, software, { app, port }) {
    const { command, env } = programOf(row, software, { host: '127.0.0.1', port, ...app });
    this.command = command;
    this.options = { env, timeout: CALL_TIMEOUT };
  }

  /** Calls the SDK. Throws what it reports, or NotOffered. */
  async call(call, more = {}) {
    const [program, ...args] = this.command;
    const { stdout } = await run(program, [...args, JSON.stringify({ call, ...more })], this.options);
    const answer = JSON.parse(stdout.trim().split('\n').at(-1));
    if (answer?.notOffered) throw new NotOffered();
    if (answer?.error) throw new Error(answer.error);
    return answer;
  }

  /** A client whose channels and user the SDK signs. */
  client(server) {
    const sign = (call) => (about, callback) => {
      this.call(call, { ...about, user: ADA }).then((auth) => callback(null, auth), (error) => callback(error, null));
    };
    return server.client({
      channelAuthorization: { customHandler: sign('authorize') },
      userAuthentication: { customHandler: sign('authenticate') },
    });
  }
}

function expect(what, seen, wanted) {
  if (!isDeepStrictEqual(seen, wanted)) throw new Error(`${what}: ${JSON.stringify(seen)} instead of ${JSON.stringify(wanted)}`);
}

async function until(what, is) {
  await inTime(what, EVENT_TIMEOUT, (async () => {
    while (!is()) await delay(20);
  })());
}

/** Events for one channel, for two, as a batch, and for all but one connection. */
async function publish({ sdk, server }) {
  const [client, other] = [server.client(), server.client()];
  const channel = await subscribe(client, 'news');
  const seen = record(channel);
  const seenByOther = record(await subscribe(other, 'more'));
  await sdk.call('trigger', { channels: ['news'], event: 'one', data: DATA });
  await sdk.call('trigger', { channels: ['news', 'more'], event: 'two', data: DATA });
  const batch = [1, 2, 3].map((n) => ({ channel: 'news', name: 'batch', data: { n } }));
  await sdk.call('batch', { batch });
  await sdk.call('trigger', { channels: ['news', 'more'], event: 'others', data: {}, socketId: await connected(client) });
  await until('events', () => seen.length === 5 && seenByOther.length === 2);
  expect('events', seen, [['one', DATA], ['two', DATA], ...batch.map(({ name, data }) => [name, data])]);
  expect('events of another channel', seenByOther, [['two', DATA], ['others', {}]]);
}

/** Occupied channels, one channel, and the users of a presence channel. */
async function read({ sdk, server }) {
  const client = server.client({ user: ADA });
  await subscribe(client, 'presence-room');
  const all = await sdk.call('channels', { prefix: 'presence-', info: 'user_count' });
  expect('channels', all.channels, { 'presence-room': { user_count: 1 } });
  const one = await sdk.call('channel', { channel: 'presence-room', info: 'user_count,subscription_count' });
  expect('channel', [one.occupied, one.user_count, one.subscription_count], [true, 1, 1]);
  expect('users', (await sdk.call('members', { channel: 'presence-room' })).users, [{ id: 'ada' }]);
}

/** Signatures for a private and a presence channel, with which a client subscribes. */
async function auth({ sdk, server }) {
  const client = sdk.client(server);
  await inTime('private channel', CALL_TIMEOUT, subscribe(client, 'private-room'));
  const room = await inTime('presence channel', CALL_TIMEOUT, subscribe(client, 'presence-room'));
  expect('member', [room.members.me.id, room.members.me.info], ['ada', ADA.user_info]);
}

/** A signed-in user gets an event and is disconnected. */
async function users({ sdk, server }) {
  const client = sdk.client(server);
  await sdk.call('authenticate', { socketId: await connected(client), user: ADA });
  client.signin();
  await inTime('sign-in', CALL_TIMEOUT, client.user.signinDonePromise);
  const letter = next(client.user, 'letter');
  await sdk.call('sendToUser', { user: 'ada', event: 'letter', data: DATA });
  expect('event', await letter, DATA);
  const gone = next(client.connection, 'disconnected');
  const terminated = await sdk.call('terminate', { user: 'ada' }).then(() => true, (error) => {
    if (!(error instanceof NotOffered)) throw error;
  });
  if (!terminated) return 'yes, but for ending connections';
  await inTime('end of the connection', EVENT_TIMEOUT, gone);
}

/** A webhook of the server is valid, and the same one with another body is not. */
async function webhooks({ sdk, server, receiver }) {
  await subscribe(server.client(), 'hooked');
  await receiver.hears({ name: 'channel_occupied', channel: 'hooked' });
  const { headers, body } = receiver.requests.find((request) => request.body.includes('hooked'));
  expect('a webhook', (await sdk.call('webhook', { headers, body })).valid, true);
  const forged = await sdk.call('webhook', { headers, body: body.replace('hooked', 'forged') });
  expect('a forged webhook', forged.valid, false);
}

/** A publish is an error while there is no server, and succeeds once there is one. */
async function restart({ sdk, server }) {
  await server.end();
  const without = await sdk.call('trigger', { channels: ['news'], event: 'lost', data: {} }).then(() => 'a success', () => 'an error');
  await server.start();
  expect('without a server', without, 'an error');
  const seen = record(await subscribe(server.client(), 'news'));
  await sdk.call('trigger', { channels: ['news'], event: 'again', data: {} });
  await until('an event', () => seen.length === 1);
}
