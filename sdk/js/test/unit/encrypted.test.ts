import nacl from 'tweetnacl';
import { expect, test, vi } from 'vitest';
import { encryption } from '../../src/encrypted.js';
import type { FanfareError } from '../../src/index.js';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { connected, settled } from './setup.js';

const name = 'private-encrypted-letters';
const last = () => ScriptedSocket.last;
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

function encrypted(key: Uint8Array, data: unknown) {
  const nonce = nacl.randomBytes(24);
  const text = new TextEncoder().encode(typeof data === 'string' ? data : JSON.stringify(data));
  return { nonce: base64(nonce), ciphertext: base64(nacl.secretbox(text, nonce, key)) };
}

async function subscribed(...keys: (Uint8Array | undefined)[]) {
  const asked = vi.fn(() => {
    const key = keys.length > 1 ? keys.shift() : keys[0];
    return { auth: 'KEY:signature', shared_secret: key && base64(key) };
  });
  const channel = connected({ encryption, auth: { channel: asked } }).channel(name);
  const [seen, errors, gaps]: [unknown[], FanfareError[], unknown[]] = [[], [], []];
  channel.bind('letter', (data) => seen.push(data));
  channel.on('error', (error) => errors.push(error));
  channel.on('gap', (gap) => gaps.push(gap));
  await settled();
  last().confirm(name);
  const arrive = (key: Uint8Array, data: unknown, position?: string) =>
    last().receive('letter', encrypted(key, data), { channel: name, position });
  return { channel, asked, seen, errors, gaps, arrive };
}

const [KEY, NEW_KEY] = [nacl.randomBytes(32), nacl.randomBytes(32)];

test('what was encrypted with the key of the auth endpoint is readable, JSON or not', async () => {
  const { seen, arrive } = await subscribed(KEY);
  arrive(KEY, { text: 'Zürich 🎉' });
  arrive(KEY, 'plain text');
  expect(seen).toEqual([{ text: 'Zürich 🎉' }, 'plain text']);
});

test('the key is never sent to the server', async () => {
  await subscribed(KEY);
  expect(JSON.stringify(last().sent)).not.toContain(base64(KEY));
});

test('a changed key is fetched once, and events keep their order meanwhile', async () => {
  const { seen, arrive, asked, errors } = await subscribed(KEY, NEW_KEY);
  arrive(KEY, 1);
  arrive(NEW_KEY, 2);
  arrive(NEW_KEY, 3);
  expect(seen).toEqual([1]);
  await settled();
  arrive(NEW_KEY, 4);
  expect(seen).toEqual([1, 2, 3, 4]);
  expect(asked).toHaveBeenCalledTimes(2);
  expect(errors).toEqual([]);
});

test('an event that stays unreadable is told as an error and a gap', async () => {
  const { seen, arrive, errors, gaps } = await subscribed(KEY);
  arrive(NEW_KEY, 1);
  arrive(KEY, 2);
  await settled();
  expect(seen).toEqual([2]);
  expect(errors).toMatchObject([{ code: 'decryption_failed', channel: name }]);
  expect(gaps).toEqual([{ reason: 'undecryptable' }]);
});

test('what is not encrypted at all is not taken for an event', async () => {
  const { seen, errors } = await subscribed(KEY);
  for (const data of [
    { text: 'forged' },
    { nonce: 'AA==', ciphertext: 'AA==' },
    { nonce: '%', ciphertext: '%' },
    null,
  ]) {
    last().receive('letter', data, { channel: name });
    await settled();
  }
  expect(seen).toEqual([]);
  expect(errors).toHaveLength(4);
});

test('an auth endpoint that gives no key is told so', async () => {
  const asked = () => ({ auth: 'KEY:signature' });
  const channel = connected({ encryption, auth: { channel: asked } }).channel(name);
  await expect(channel.ready()).rejects.toThrow(/shared_secret of 32 bytes/);
});

test('positions count for encrypted events as well', async () => {
  const { arrive } = await subscribed(KEY);
  arrive(KEY, 1, 'p1');
  last().end();
  vi.advanceTimersByTime(1000);
  last().greet();
  await settled();
  expect(last().sentOf('pusher:subscribe')[0].recover.position).toBe('p1');
});

test('client events are not for encrypted channels', async () => {
  const { channel } = await subscribed(KEY);
  expect(() => channel.trigger('client-e')).toThrow(/none on encrypted/);
});
