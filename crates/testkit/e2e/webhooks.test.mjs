// Webhooks as a backend with the official SDK receives them.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startServer, subscribe } from './harness.mjs';
import { startReceiver } from './webhook-receiver.mjs';
import { until } from './cluster/until.mjs';

/** Hosted Pusher's grace for a page that is loaded again. */
const GRACE = 3000;

let server;
let receiver;
let answer = () => 200;

before(async () => {
  server = await startServer({ settings: { subscription_count: true }, env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' } });
  receiver = await startReceiver({ app: server.app, answer: (request) => answer(request) });
  await create('--url', receiver.url);
});
afterEach(() => {
  answer = () => 200;
  server.disconnectClients();
});
after(async () => {
  await receiver?.stop();
  await server?.stop();
});

test('a channel that is occupied and vacated is told once each, with signatures that the official SDK accepts', async () => {
  const client = server.client();
  await subscribe(client, 'orders');
  const occupied = await receiver.hears({ name: 'channel_occupied', channel: 'orders' });
  const leftAt = Date.now();
  client.unsubscribe('orders');
  const vacated = await receiver.hears({ name: 'channel_vacated', channel: 'orders' });
  assert.ok(vacated.at - leftAt >= GRACE, `${vacated.at - leftAt} ms`);
  assert.ok(occupied.sequence < vacated.sequence);
  const ours = receiver.requests.filter(({ events }) => events.some(({ channel }) => channel === 'orders'));
  assert.ok(ours.every(({ isValid, events }) => isValid && events.length === 1));
  assert.equal(ours.filter(({ events: [{ name }] }) => name !== 'subscription_count').length, 2);
  for (const { headers, timeMs } of ours) {
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['x-pusher-key'], server.app.key);
    assert.ok(Math.abs(Date.now() - timeMs) < 60_000);
  }
});

test('a page that is loaded again within the grace is not told', async () => {
  const first = server.client({ user: { user_id: 'ada' } });
  await subscribe(first, 'presence-reload');
  await receiver.hears({ name: 'member_added', channel: 'presence-reload', user_id: 'ada' });
  first.disconnect();
  await delay(GRACE / 3);
  const second = server.client({ user: { user_id: 'ada' } });
  await subscribe(second, 'presence-reload');
  await delay(GRACE + 500);
  second.unsubscribe('presence-reload');
  await receiver.hears({ name: 'channel_vacated', channel: 'presence-reload' });
  const told = receiver.events.filter(({ channel, name }) => channel === 'presence-reload' && name !== 'subscription_count');
  assert.deepEqual(told.map(({ name }) => name), ['channel_occupied', 'member_added', 'member_removed', 'channel_vacated']);
});

test('client events, cache misses and subscription counts are told in the shape that hosted Pusher has', async () => {
  const ada = server.client({ user: { user_id: 'ada' } });
  const room = await subscribe(ada, 'presence-events');
  const lobby = await subscribe(ada, 'private-events');
  await subscribe(ada, 'cache-empty');
  const count = await receiver.hears({ name: 'subscription_count', channel: 'private-events' });
  assert.equal(count.subscription_count, 1);
  await receiver.hears({ name: 'cache_miss', channel: 'cache-empty' });
  room.trigger('client-typing', { in: 'field' });
  lobby.trigger('client-typing', { in: 'field' });
  const socket_id = ada.connection.socket_id;
  const shape = ({ at, sequence, timeMs, ...event }) => event;
  const event = { name: 'client_event', event: 'client-typing', data: '{"in":"field"}', socket_id };
  const onRoom = await receiver.hears({ name: 'client_event', channel: 'presence-events' });
  const onLobby = await receiver.hears({ name: 'client_event', channel: 'private-events' });
  assert.deepEqual(shape(onRoom), { ...event, channel: 'presence-events', user_id: 'ada' });
  assert.deepEqual(shape(onLobby), { ...event, channel: 'private-events' });
});

test('a member who sends an event at once was added before', async () => {
  const channel = 'presence-at-once';
  const users = ['a', 'b', 'c', 'd', 'e', 'f'];
  await Promise.all(users.map(async (user_id) => {
    const room = await subscribe(server.client({ user: { user_id } }), channel);
    room.trigger('client-here', {});
  }));
  await Promise.all(users.map(async (user_id) => {
    const added = await receiver.hears({ name: 'member_added', channel, user_id });
    const sent = await receiver.hears({ name: 'client_event', channel, user_id });
    assert.ok(added.sequence < sent.sequence, `${user_id}: ${added.sequence}, ${sent.sequence}`);
  }));
});

test('a cache miss of many simultaneous subscribers is told once', async () => {
  const clients = Array.from({ length: 20 }, () => server.client());
  await Promise.all(clients.map((client) => subscribe(client, 'cache-popular')));
  await receiver.hears({ name: 'cache_miss', channel: 'cache-popular' });
  await delay(1000);
  assert.equal(receiver.events.filter(({ name, channel }) => name === 'cache_miss' && channel === 'cache-popular').length, 1);
});

test('what is answered with 500 comes again with growing gaps, the same body and id, until it is taken', async () => {
  let refusals = 3;
  answer = ({ events }) => (events[0].channel === 'retried' && refusals-- > 0 ? 500 : 200);
  await subscribe(server.client(), 'retried');
  await receiver.hears({ name: 'channel_occupied', channel: 'retried' }, { within: 20_000 });
  const tries = receiver.requests.filter(({ events }) => events[0].channel === 'retried' && events[0].name === 'channel_occupied');
  assert.deepEqual(tries.map(({ attempt }) => attempt), [1, 2, 3, 4]);
  assert.equal(new Set(tries.map(({ body, id, headers }) => `${body} ${id} ${headers['x-pusher-signature']}`)).size, 1);
  const gaps = tries.slice(1).map(({ at }, n) => at - tries[n].at);
  assert.ok(gaps[0] < gaps[1] && gaps[1] < gaps[2], String(gaps));
});

test('after kill -9 receivers are told the departures that they are owed, and nothing twice', async () => {
  const ada = server.client({ user: { user_id: 'ada' } });
  const stays = server.client({ user: { user_id: 'stays' } });
  await Promise.all([subscribe(ada, 'presence-killed'), subscribe(stays, 'presence-killed'), subscribe(ada, 'only-ada')]);
  await receiver.hears({ name: 'member_added', channel: 'presence-killed', user_id: 'ada' });
  await receiver.hears({ name: 'member_added', channel: 'presence-killed', user_id: 'stays' });
  await receiver.hears({ name: 'channel_occupied', channel: 'only-ada' });
  await server.end('SIGKILL');
  ada.disconnect();
  await server.start();
  const patience = { within: 40_000 };
  await receiver.hears({ name: 'member_removed', channel: 'presence-killed', user_id: 'ada' }, patience);
  await receiver.hears({ name: 'channel_vacated', channel: 'only-ada' }, patience);
  const told = receiver.events.filter(({ channel, name }) => channel === 'presence-killed' && name !== 'subscription_count');
  assert.deepEqual(told.map(({ name, user_id }) => [name, user_id]).sort(), [
    ['channel_occupied', undefined],
    ['member_added', 'ada'],
    ['member_added', 'stays'],
    ['member_removed', 'ada'],
  ]);
});

test('the log has every attempt, a receiver can pull what it missed, and a replay is accepted', async () => {
  const webhook = await create('--url', receiver.url, '--channels', 'logged-*', '--event', 'channel_occupied');
  answer = ({ events }) => (events[0].channel === 'logged-1' && !receiver.events.some(({ channel }) => channel === 'logged-0') ? 503 : 200);
  await subscribe(server.client(), 'logged-1');
  await until('an attempt has failed', () => receiver.requests.some(({ id, status }) => id?.startsWith(webhook.id) && status === 503));
  answer = () => 200;
  const logged = async () => JSON.parse(await server.cli('webhook', 'deliveries', webhook.id, '--json')).items;
  const [delivery] = await until('it is delivered', async () => {
    const items = await logged();
    return items.length === 1 && items[0].state === 'delivered' && items;
  });
  const { attempts } = JSON.parse(await server.cli('webhook', 'delivery', webhook.id, String(delivery.sequence), '--json'));
  assert.deepEqual(attempts.map(({ status }) => status), [503, 200]);
  await server.cli('webhook', 'replay', webhook.id, '--sequence', String(delivery.sequence));
  const replayed = await until('it is replayed', () => receiver.requests.find(({ id, replay }) => replay && id.startsWith(webhook.id)));
  assert.equal(replayed.isValid, true);
  assert.equal(replayed.sequence, delivery.sequence);
});

test('several events come in one body where batching is on', async () => {
  const webhook = await create('--url', receiver.url, '--channels', 'batched-*', '--event', 'channel_occupied', '--batch');
  const client = server.client();
  await Promise.all(Array.from({ length: 40 }, (_, n) => subscribe(client, `batched-${n}`)));
  const ours = () => receiver.requests.filter(({ id }) => id?.startsWith(webhook.id));
  await until('all are told', () => ours().flatMap(({ events }) => events).length === 40);
  assert.ok(ours().length < 40, `${ours().length} requests`);
  assert.ok(ours().every(({ isValid }) => isValid));
});

async function create(...flags) {
  const webhook = JSON.parse(await server.cli('webhook', 'create', '--app', server.app.id, ...flags, '--json'));
  // The command line writes the store; the server learns of it within a second.
  await delay(1100);
  return webhook;
}
