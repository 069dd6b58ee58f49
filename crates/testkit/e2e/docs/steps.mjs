// What blocks need around them, by name.
import { createHmac } from 'node:crypto';
import { until } from '../cluster/until.mjs';
import { freePort } from '../harness.mjs';
import { listens } from '../pages.mjs';
import { blocks } from './blocks.mjs';
import { browse } from './browser.mjs';
import { has } from './languages.mjs';
import { APP } from './session.mjs';

/** What the samples of a page for a server with TLS become for one without. */
export function withoutTls({ port }) {
  return { 'realtime.example.com': '127.0.0.1', 443: port, 'forceTLS: true': `forceTLS: false, wsPort: ${port}, httpPort: ${port}`, 'useTLS: true': 'useTLS: false' };
}

/** A document that says whose tokens an app accepts. */
export async function identity({ code }, page) {
  page.write('identity.json', code);
  await page.shell(`fanfare app identity set ${APP.id} identity.json`);
}

/** A token of an identity provider that shares a secret with the app. */
export function jsonWebToken(claims, secret) {
  const text = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** The file of docs/channels.md with both sides of an application. */
export async function writeBoth(page) {
  const { file, code } = blocks('docs/channels.md').find(({ file: name }) => name === 'both.mjs');
  page.write(file, page.fill(code));
}

/**
 * Runs a program that goes on until Ctrl-C, after the lines `first`, and ends it once it has printed `says`. `act` is called again and again
 * until then, because nobody knows when the program is ready.
 */
export async function goesOn({ at, language, code }, page, { first = '', says, act }) {
  const [command, extension] = { python: ['python3', 'py'], js: ['node', 'mjs'] }[language];
  const file = page.write(`${at.replaceAll(/\W/g, '-')}.${extension}`, page.fill(`${first}\n${code}`));
  const program = page.run(command, ...(language === 'python' ? ['-u'] : []), file);
  await reacts(act, () => says.test(program.printed) || (program.ended && fail(program.printed)), () => program.printed);
  await program.stop();
}

/** Opens a page with the block, and waits until its console says `says`, as `goesOn`. */
export async function inPage(block, page, { says, act, ...options }) {
  const tab = await browse(block, page, options);
  await reacts(act, () => tab.lines.some((line) => says.test(line)), () => tab.lines.join('\n'));
  await tab.close();
}

async function reacts(act, check, explain) {
  const attempt = async () => {
    await act?.();
    return check();
  };
  await until('the program says it', attempt, { every: 100, explain });
}

function fail(text) {
  throw new Error(`the program has ended:\n${text}`);
}

/** Publishes an event, as a step of `goesOn`. */
export function publishes(page, channel, event, data) {
  return () => page.sdk().trigger(channel, event, data);
}

/** Only reads a piece of a program, with what `around` puts around it: it needs a framework, or an SDK that isn't among these tests'. */
export async function syntax({ at, code }, page, command, around) {
  const file = page.write(at.replaceAll(/\W/g, '-'), around(code));
  if (await has(page, command.split(' ')[0])) await page.shell(`${command} ${file}`);
}

/** The line that lets pusher-js recover: a client with it gets events. */
export function recovers(block, page) {
  const first = `import Pusher from 'pusher-js';
    const pusher = new Pusher('${APP.key}', { cluster: 'x', wsHost: '127.0.0.1', wsPort: ${page.port}, httpHost: '127.0.0.1', forceTLS: false });
    pusher.subscribe('room-1').bind('message', (data) => console.log(data));`;
  return goesOn(block, page, { first, says: /{ text: 'four' }/, act: publishes(page, 'room-1', 'message', { text: 'four' }) });
}

/** A Redis of the page's own, for its samples that have one. */
export async function startRedis(page) {
  const port = await freePort();
  page.redis = page.run('redis-server', '--port', String(port), '--bind', '127.0.0.1', '--requirepass', 'secret', '--save', '', '--dir', page.folder);
  await listens(page.redis, port);
  page.replace({ 'redis://:secret@redis.internal:6379': `redis://:secret@127.0.0.1:${port}`, 'redis-cli': `redis-cli --no-auth-warning -a secret -p ${port}` });
}

/** Publishes to room-1 again and again, and an event that is refused. */
export async function publishing(page, text) {
  const file = page.write('publisher.mjs', `import Pusher from 'pusher';
    const pusher = new Pusher({ appId: '${APP.id}', key: '${APP.key}', secret: '${APP.secret}', host: '127.0.0.1', port: ${page.port} });
    setInterval(() => {
      pusher.trigger('room-1', 'message', '${text}').catch(() => {});
      pusher.trigger('room-1', 'message', 'x'.repeat(20_000)).catch(() => {});
    }, 200);`);
  page.run('node', file);
}

/** Ada, who comes back as another connection whenever an operator closes hers. The program prints the ids of her connections. */
export function connectAda(page) {
  const code = `import Client from 'pusher-js';
    import Pusher from 'pusher';
    const backend = new Pusher({ appId: '${APP.id}', key: '${APP.key}', secret: '${APP.secret}' });
    function connect() {
      const client = new Client('${APP.key}', { cluster: 'x', wsHost: '127.0.0.1', wsPort: ${page.port}, httpHost: '127.0.0.1', forceTLS: false,
        channelAuthorization: { customHandler: ({ socketId, channelName }, answer) =>
          answer(null, backend.authorizeChannel(socketId, channelName, { user_id: 'ada' })) } });
      client.subscribe('room-1');
      client.subscribe('presence-room-1').bind('pusher:subscription_succeeded', () => console.log(client.connection.socket_id));
      client.connection.bind('disconnected', connect);
    }
    connect();`;
  return page.run('node', page.write('ada.mjs', code));
}

/** A client on a channel that nobody was on, of which webhooks tell. */
export function occupyChannel(page) {
  const code = `import Client from 'pusher-js';
    new Client('${APP.key}', { cluster: 'x', wsHost: '127.0.0.1', wsPort: ${page.port}, httpHost: '127.0.0.1', forceTLS: false }).subscribe('new');`;
  return page.run('node', page.write('newcomer.mjs', code));
}
