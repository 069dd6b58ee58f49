import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { codeOf, type Draft, EMPTY, LANGUAGES, missing, requestOf } from '../src/sender/message';

const PLACE = { server: 'https://realtime.example.com', appId: '1234567', key: 'a-key' };
const draft = (part: Partial<Draft>): Draft => ({ ...EMPTY, channels: 'news sport', event: 'headline', ...part });

test('JSON is sent as JSON, and other text as a text', () => {
  expect(requestOf(draft({ data: '{"a": [1, true]}' })).body).toEqual({ name: 'headline', channels: ['news', 'sport'], data: { a: [1, true] } });
  expect(requestOf(draft({ data: 'plain {' })).body).toMatchObject({ data: 'plain {' });
  // The server takes no null, and subscribers get the text null for it.
  expect(requestOf(draft({ data: 'null' })).body).toMatchObject({ data: 'null' });
});

test('a connection is left out where that is said', () => {
  expect(requestOf(draft({ socketId: ' 12.34 ' })).body).toMatchObject({ socket_id: '12.34' });
});

test('what is missing is said before anything is sent', () => {
  expect(missing(draft({}))).toBeUndefined();
  expect(missing(draft({ channels: ' ' }))).toMatch(/channel/);
  expect(missing(draft({ event: '' }))).toMatch(/event/);
  expect(missing(draft({ mode: 'client', channels: 'private-a' }))).toMatch(/client-/);
  expect(missing(draft({ mode: 'client', event: 'client-a', channels: 'news' }))).toMatch(/private-/);
  expect(missing(draft({ mode: 'client', event: 'client-a', channels: 'private-a' }))).toBeUndefined();
  expect(missing(draft({ mode: 'batch', batch: '{}' }))).toMatch(/array/);
  expect(missing(draft({ mode: 'batch', batch: '[' }))).toMatch(/JSON/);
  expect(missing(draft({ mode: 'batch' }))).toBeUndefined();
});

// Everything that ends a string somewhere.
const NASTY = `{"text": "it's \\"so\\" \\\\ $HOME \`x\` </script> \\n 💡 \\u2028"}`;

test('a shell takes the curl line as it is meant', () => {
  const code = codeOf('curl', draft({ data: NASTY }), PLACE);
  const printed = execFileSync('bash', ['-c', `curl() { printf '%s\\0' "$@"; }\n${code}`]).toString().split('\0');
  expect(printed).toContain('https://realtime.example.com/api/v1/apps/1234567/events');
  const body = JSON.parse(printed[printed.indexOf('--json') + 1] as string);
  expect(body).toEqual(requestOf(draft({ data: NASTY })).body);
});

test('a shell takes the command of each channel as it is meant', () => {
  const code = codeOf('cli', draft({ data: NASTY, event: "it's" }), PLACE);
  const printed = execFileSync('bash', ['-c', `fanfare() { printf '%s\\0' "$@"; }\n${code}`]).toString().split('\0');
  const channels = printed.filter((_, at) => printed[at - 1] === '--');
  expect(channels).toEqual(['news', 'sport']);
  const at = printed.indexOf('--');
  expect(printed[at + 2]).toBe("it's");
  expect(JSON.parse(printed[at + 3] as string)).toEqual(JSON.parse(NASTY));
});

test('the code for Node calls the SDK with what is sent', async () => {
  const calls: unknown[] = [];
  class Pusher {
    constructor(options: unknown) {
      calls.push(options);
    }
    trigger(...args: unknown[]) {
      calls.push(args);
    }
    triggerBatch(...args: unknown[]) {
      calls.push(args);
    }
  }
  const run = async (code: string) => {
    calls.length = 0;
    const body = code.replace(/^import .*\n/, '');
    await new Function('Pusher', 'process', `return (async () => {${body}})()`)(Pusher, { env: { FANFARE_KEY: 'k', FANFARE_SECRET: 's' } });
    return calls;
  };
  expect(await run(codeOf('node', draft({ data: NASTY, socketId: '1.2' }), PLACE))).toEqual([
    { appId: '1234567', key: 'k', secret: 's', host: 'realtime.example.com', port: '443', useTLS: true },
    [['news', 'sport'], 'headline', JSON.parse(NASTY), { socket_id: '1.2' }],
  ]);
  const [, batch] = await run(codeOf('node', draft({ mode: 'batch' }), PLACE));
  expect(batch).toEqual([JSON.parse(EMPTY.batch)]);
});

test('Python takes the code as it is meant', () => {
  const code = codeOf('python', draft({ data: NASTY, socketId: '1.2' }), PLACE).replace('import pusher\n', '');
  const fake = `
import json
class pusher:
    class Pusher:
        def __init__(self, **options): self.options = options
        def trigger(self, *args): print(json.dumps([self.options, args]))
`;
  const env = { ...process.env, FANFARE_KEY: 'k', FANFARE_SECRET: 's' };
  const printed = JSON.parse(execFileSync('python3', ['-c', fake + code], { env }).toString());
  expect(printed).toEqual([
    { app_id: '1234567', key: 'k', secret: 's', host: 'realtime.example.com', port: 443, ssl: true },
    [['news', 'sport'], 'headline', JSON.parse(NASTY), '1.2'],
  ]);
});

test('every way of sending has code in each of its languages', () => {
  for (const mode of ['event', 'batch', 'client'] as const) {
    const part = mode === 'client' ? { channels: 'private-a', event: 'client-a' } : {};
    for (const [language] of LANGUAGES[mode]) expect(codeOf(language, draft({ mode, ...part }), PLACE), `${mode} ${language}`).toMatch(/\S/);
  }
});

test('a quote in PHP ends no string', () => {
  expect(codeOf('php', draft({ data: `"it's \\\\"`, event: "a'b" }), PLACE)).toContain(`'a\\'b', json_decode('"it\\'s \\\\\\\\"', true)`);
});
