import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, test } from 'node:test';
import { next, record, startServer, subscribe, wireFrames } from './harness.mjs';

const server = await startServer();
const encryptionMasterKeyBase64 = randomBytes(32).toString('base64');
const sdk = server.sdk({ encryptionMasterKeyBase64 });
after(() => server.stop());
afterEach(() => server.disconnectClients());

test('what npm pusher encrypts, pusher-js decrypts, and the server relays without reading it', async () => {
  const client = server.client({ sdk });
  const channel = await subscribe(client, 'private-encrypted-letters');
  const frames = wireFrames(client);
  const received = next(channel, 'letter');
  await sdk.trigger('private-encrypted-letters', 'letter', { text: 'Nobody else reads this' });
  assert.deepEqual(await received, { text: 'Nobody else reads this' });

  const [{ data, ...frame }] = frames;
  assert.deepEqual(frame, { event: 'letter', channel: 'private-encrypted-letters' });
  assert.deepEqual(Object.keys(JSON.parse(data)), ['nonce', 'ciphertext']);
});

test('the ciphertext arrives byte for byte', async () => {
  const client = server.client({ sdk });
  await subscribe(client, 'private-encrypted-bytes');
  const frames = wireFrames(client);
  const data = '{ "ciphertext":"AAAA",  "nonce":"\\u0041" }';
  const arrived = next(client.connection, 'message');
  const body = JSON.stringify({ name: 'letter', channel: 'private-encrypted-bytes', data });
  assert.equal((await server.signed('POST', '/events', { body })).status, 200);
  await arrived;
  assert.equal(frames[0].data, data);
});

test('a subscriber with another key hears nothing', async () => {
  const stranger = server.sdk({ encryptionMasterKeyBase64: randomBytes(32).toString('base64') });
  const client = server.client({ sdk: stranger });
  const channel = await subscribe(client, 'private-encrypted-other');
  const open = await subscribe(client, 'open');
  const seen = record(channel);
  const fence = next(open, 'fence');
  await sdk.trigger('private-encrypted-other', 'letter', 'secret');
  await sdk.trigger('open', 'fence', 1);
  await fence;
  assert.deepEqual(seen, []);
});

test('an encrypted channel needs a signature like any private one', async () => {
  const forger = server.sdk({ encryptionMasterKeyBase64, secret: 'not-the-secret' });
  const client = server.client({ sdk: forger });
  await assert.rejects(subscribe(client, 'private-encrypted-closed'), /refused/);
});

test('encrypted items of a batch are decrypted as well', async () => {
  const channel = await subscribe(server.client({ sdk }), 'private-encrypted-batch');
  const received = next(channel, 'second');
  await sdk.triggerBatch([
    { channel: 'open', name: 'first', data: 1 },
    { channel: 'private-encrypted-batch', name: 'second', data: { n: 2 } },
  ]);
  assert.deepEqual(await received, { n: 2 });
});
