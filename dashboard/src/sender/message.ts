// What is to be sent, and the same as requests and code.
import { shellQuoted } from '../shell-quoted';

export type Mode = 'event' | 'batch' | 'client';

export interface Draft {
  mode: Mode;
  channels: string;
  event: string;
  data: string;
  /** Excluded from an event; of an event from a client, who sends it. */
  socketId: string;
  userId: string;
  /** JSON of a batch. */
  batch: string;
}

export const EMPTY: Draft = {
  mode: 'event',
  channels: '',
  event: '',
  data: '{\n  "text": "Hello"\n}',
  socketId: '',
  userId: '',
  batch: '[\n  { "channel": "news", "name": "headline", "data": { "text": "One" } },\n  { "channel": "news", "name": "headline", "data": { "text": "Two" } }\n]',
};

/** Data as it is sent: JSON if it is JSON, else the text as a string. */
export function dataOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value === null ? 'null' : value;
  } catch {
    return text;
  }
}

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export function channelsOf({ channels }: Draft): string[] {
  return [...new Set(channels.split(/[\s]+/).filter(Boolean))];
}

export interface Request {
  path: string;
  body: unknown;
}

/** The request to the admin API, below the app's path. Fails with what to correct. */
export function requestOf(draft: Draft): Request {
  const socket = draft.socketId.trim() ? { socket_id: draft.socketId.trim() } : {};
  switch (draft.mode) {
    case 'event':
      return { path: '/events', body: { name: draft.event, channels: channelsOf(draft), data: dataOf(draft.data), ...socket } };
    case 'batch':
      return { path: '/events/batch', body: { batch: batchOf(draft.batch) } };
    case 'client': {
      const user = draft.userId.trim() ? { user_id: draft.userId.trim() } : {};
      return { path: '/client-events', body: { name: draft.event, channel: draft.channels.trim(), data: dataOf(draft.data), ...socket, ...user } };
    }
  }
}

export interface BatchEvent {
  channel: string;
  name: string;
  data: unknown;
  socket_id?: string;
}

export function batchOf(text: string): BatchEvent[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`The batch is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(value) || value.length === 0) throw new Error('The batch must be an array of events, for example [{"channel": "news", "name": "headline", "data": "One"}].');
  return value as BatchEvent[];
}

/** What is missing before it can be sent, if anything. */
export function missing(draft: Draft): string | undefined {
  if (draft.mode === 'batch') {
    try {
      batchOf(draft.batch);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }
  if (!draft.channels.trim()) return 'Name a channel first.';
  if (!draft.event.trim()) return 'Name the event first.';
  if (draft.mode === 'client' && !draft.event.startsWith('client-')) return 'The names of clients’ events begin with client-.';
  if (draft.mode === 'client' && !/^(private|presence)-/.test(draft.channels.trim())) return 'Clients may send only on private- and presence- channels.';
  return undefined;
}

export interface Place {
  server: string;
  appId: string;
  key: string;
}

export type Language = 'curl' | 'cli' | 'node' | 'python' | 'php' | 'browser';

export const LANGUAGES: Record<Mode, readonly (readonly [Language, string])[]> = {
  event: [['curl', 'curl'], ['cli', 'fanfare'], ['node', 'Node'], ['python', 'Python'], ['php', 'PHP']],
  batch: [['curl', 'curl'], ['node', 'Node'], ['python', 'Python'], ['php', 'PHP']],
  client: [['curl', 'curl'], ['browser', 'JavaScript']],
};

export function codeOf(language: Language, draft: Draft, place: Place): string {
  switch (language) {
    case 'curl':
      return curl(draft, place);
    case 'cli':
      return cli(draft, place);
    case 'node':
      return node(draft, place);
    case 'python':
      return python(draft, place);
    case 'php':
      return php(draft, place);
    case 'browser':
      return browser(draft, place);
  }
}

function curl(draft: Draft, { server, appId }: Place): string {
  const { path, body } = requestOf(draft);
  const url = `${server}/api/v1/apps/${encodeURIComponent(appId)}${path}`;
  return `# FANFARE_TOKEN: an API token with the role admin\ncurl -sS --fail-with-body ${shellQuoted(url)} \\\n  -H "Authorization: Bearer $FANFARE_TOKEN" \\\n  --json ${shellQuoted(JSON.stringify(body))}`;
}

function cli(draft: Draft, { server, appId }: Place): string {
  const note = draft.socketId.trim() ? '# the command can’t leave out a connection\n' : '';
  const data = compact(draft.data);
  const lines = channelsOf(draft).map(
    (channel) =>
      `fanfare publish --server ${shellQuoted(server)} --app ${shellQuoted(appId)} \\\n  --key "$FANFARE_KEY" --secret "$FANFARE_SECRET" \\\n  -- ${[channel, draft.event, data].map(shellQuoted).join(' ')}`,
  );
  return note + lines.join('\n');
}

function compact(text: string): string {
  return isJson(text) ? JSON.stringify(JSON.parse(text)) : text;
}

function host(server: string) {
  const { protocol, hostname, port } = new URL(server);
  const useTls = protocol === 'https:';
  return { hostname, port: port || (useTls ? '443' : '80'), useTls };
}

/** A value as a literal of JavaScript; JSON is one. */
const js = (value: unknown) => JSON.stringify(value, null, 2);

function node(draft: Draft, { server, appId }: Place): string {
  const { hostname, port, useTls } = host(server);
  const head = `import Pusher from 'pusher';

const pusher = new Pusher({
  appId: ${js(appId)},
  key: process.env.FANFARE_KEY,
  secret: process.env.FANFARE_SECRET,
  host: ${js(hostname)},
  port: ${js(port)},
  useTLS: ${useTls},
});
`;
  if (draft.mode === 'batch') return `${head}\nawait pusher.triggerBatch(${js(batchOf(draft.batch))});`;
  const except = draft.socketId.trim() ? `, { socket_id: ${js(draft.socketId.trim())} }` : '';
  return `${head}\nawait pusher.trigger(${JSON.stringify(channelsOf(draft))}, ${js(draft.event)}, ${js(dataOf(draft.data))}${except});`;
}

function python(draft: Draft, { server, appId }: Place): string {
  const { hostname, port, useTls } = host(server);
  // A string of JSON is a string of Python as well.
  const json = (value: unknown) => `json.loads(${JSON.stringify(JSON.stringify(value))})`;
  const head = `import json, os
import pusher

client = pusher.Pusher(
    app_id=${js(appId)},
    key=os.environ["FANFARE_KEY"],
    secret=os.environ["FANFARE_SECRET"],
    host=${js(hostname)},
    port=${port},
    ssl=${useTls ? 'True' : 'False'},
)
`;
  if (draft.mode === 'batch') return `${head}\nclient.trigger_batch(${json(batchOf(draft.batch))})`;
  const except = draft.socketId.trim() ? `, ${js(draft.socketId.trim())}` : '';
  return `${head}\nclient.trigger(${JSON.stringify(channelsOf(draft))}, ${js(draft.event)}, ${json(dataOf(draft.data))}${except})`;
}

function php(draft: Draft, { server, appId }: Place): string {
  const { hostname, port, useTls } = host(server);
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const json = (value: unknown) => `json_decode(${quoted(JSON.stringify(value))}, true)`;
  const head = `$pusher = new Pusher\\Pusher(getenv('FANFARE_KEY'), getenv('FANFARE_SECRET'), ${quoted(appId)}, [
    'host' => ${quoted(hostname)},
    'port' => ${port},
    'scheme' => '${useTls ? 'https' : 'http'}',
]);
`;
  if (draft.mode === 'batch') return `${head}\n$pusher->triggerBatch(${json(batchOf(draft.batch))});`;
  const channels = `[${channelsOf(draft).map(quoted).join(', ')}]`;
  const except = draft.socketId.trim() ? `, ['socket_id' => ${quoted(draft.socketId.trim())}]` : '';
  return `${head}\n$pusher->trigger(${channels}, ${quoted(draft.event)}, ${json(dataOf(draft.data))}${except});`;
}

function browser(draft: Draft, { server, key }: Place): string {
  return `const client = new Fanfare(${js(key)}, { url: ${js(server)} });
client.channel(${js(draft.channels.trim())}).trigger(${js(draft.event)}, ${js(dataOf(draft.data))});`;
}
