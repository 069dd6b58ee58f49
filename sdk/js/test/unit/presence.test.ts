import { expect, test, vi } from 'vitest';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { connected, settled } from './setup.js';

const last = () => ScriptedSocket.last;
const room = { channel: 'presence-room' };

async function joined(hash: Record<string, unknown>) {
  const channel_data = JSON.stringify({ user_id: 7, user_info: { name: 'Ada' } });
  const made = connected({ auth: { channel: () => ({ auth: 'KEY:signature', channel_data }) } });
  const channel = made.channel<Record<string, any>, { name: string }>('presence-room');
  await settled();
  show(hash);
  return channel;
}

function show(hash: Record<string, unknown>): void {
  last().confirm('presence-room', { presence: { ids: Object.keys(hash), hash, count: Object.keys(hash).length } });
}

const ADA = { 7: { name: 'Ada' } };
const BOB = { bob: { name: 'Bob' } };

test('a presence channel knows who is there and who this client is', async () => {
  const channel = await joined({ ...ADA, ...BOB });
  expect([...channel.members]).toEqual([
    ['7', { name: 'Ada' }],
    ['bob', { name: 'Bob' }],
  ]);
  expect(channel.me).toEqual({ id: '7', info: { name: 'Ada' } });
});

test('members come and go, each told once', async () => {
  const channel = await joined(ADA);
  const told: unknown[] = [];
  channel.on('join', (member) => told.push(['join', member]));
  channel.on('leave', (member) => told.push(['leave', member]));
  channel.on('members', (members) => told.push(members.size));
  const member = { user_id: 'bob', user_info: { name: 'Bob' } };
  last().receive('pusher_internal:member_added', member, room).receive('pusher_internal:member_added', member, room);
  last().receive('pusher_internal:member_removed', { user_id: 'bob' }, room);
  last().receive('pusher_internal:member_removed', { user_id: 'bob' }, room);
  const bob = { id: 'bob', info: { name: 'Bob' } };
  expect(told).toEqual([['join', bob], 2, 2, ['leave', bob], 1, 1]);
});

test('after a lost connection, who came and went meanwhile is told', async () => {
  const channel = await joined({ ...ADA, ...BOB });
  const told: unknown[] = [];
  channel.on('join', ({ id }) => told.push(['join', id]));
  channel.on('leave', ({ id }) => told.push(['leave', id]));
  last().end();
  expect(channel.members.size).toBe(2);
  vi.advanceTimersByTime(1000);
  last().greet();
  await settled();
  show({ ...ADA, eve: { name: 'Eve' } });
  expect(told).toEqual([
    ['leave', 'bob'],
    ['join', 'eve'],
  ]);
});

test('ids that are names of object methods are ids', async () => {
  const channel = await joined(JSON.parse('{"__proto__":null,"constructor":{"name":"C"}}'));
  expect([...channel.members.keys()]).toEqual(['__proto__', 'constructor']);
});

test('client events say who sent them', async () => {
  const channel = await joined(ADA);
  const heard = vi.fn();
  channel.bind('client-typing', heard);
  last().receive('client-typing', { on: true }, { ...room, user_id: 'bob' });
  expect(heard).toHaveBeenCalledWith({ on: true }, { userId: 'bob' });
});
