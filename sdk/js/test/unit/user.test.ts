import { expect, test, vi } from 'vitest';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { client, connected, settled } from './setup.js';

const last = () => ScriptedSocket.last;
const user_data = '{"id":"ada","user_info":{"name":"Ada"}}';
const auth = { user: () => ({ auth: 'KEY:signature', user_data }), channel: () => ({ auth: 'KEY:signature' }) };

async function confirmed(): Promise<void> {
  await settled();
  last().receive('pusher:signin_success', { user_data });
  await settled();
  last().confirm('#server-to-user-ada', { position: 'p0' });
  await settled();
}

test('who signs in gets what is sent to the user', async () => {
  const made = client({ auth });
  const signin = made.signin();
  last().greet();
  await settled();
  expect(last().sentOf('pusher:signin')).toEqual([{ auth: 'KEY:signature', user_data }]);
  await confirmed();
  expect(await signin).toEqual({ id: 'ada', user_info: { name: 'Ada' } });
  expect(made.user.id).toBe('ada');
  const heard = vi.fn();
  made.user.bind('hello', heard);
  last().receive('hello', 1, { channel: '#server-to-user-ada' });
  expect(heard).toHaveBeenCalledWith(1, {});
});

test('the next connection is signed in by itself, and recovers what was sent to the user', async () => {
  const made = connected({ auth });
  const former = last().socketId;
  const signin = made.signin();
  await confirmed();
  await signin;
  const told: string[] = [];
  made.user.on('signedOut', () => told.push('signedOut'));
  made.user.on('signedIn', () => told.push('signedIn'));
  last().end();
  vi.advanceTimersByTime(1000);
  last().greet();
  await settled();
  last().receive('pusher:signin_success', { user_data });
  await settled();
  expect(told).toEqual(['signedOut', 'signedIn']);
  expect(last().sentOf('pusher:subscribe')).toMatchObject([
    { channel: '#server-to-user-ada', recover: { position: 'p0', socket_id: former } },
  ]);
});

test('a refused sign-in rejects with the words of the server', async () => {
  const made = connected({ auth });
  const told: string[] = [];
  made.on('error', ({ code }) => told.push(code));
  made.user.on('error', ({ code }) => told.push(code));
  const signin = made.signin();
  await settled();
  last().receive('pusher:error', { code: null, message: 'Invalid signature' }).receive('pusher:pong', {});
  await expect(signin).rejects.toMatchObject({ code: 'signin_refused', message: 'Sign-in refused: Invalid signature' });
  expect(told).toEqual(['signin_refused']);
});

test('a sign-in that the application refuses rejects with that', async () => {
  const made = connected({ auth: { user: () => Promise.reject(new Error('not today')) } });
  await expect(made.signin()).rejects.toThrow('Auth for sign-in: not today');
});

test('people of the watchlist come and go', async () => {
  const made = connected({ auth });
  const signin = made.signin();
  await confirmed();
  await signin;
  const [online, offline] = [vi.fn(), vi.fn()];
  made.user.on('online', online);
  made.user.on('offline', offline);
  const events = [
    { name: 'online', user_ids: ['bob'] },
    { name: 'offline', user_ids: ['eve'] },
  ];
  last().receive('pusher_internal:watchlist_events', { events });
  expect(online).toHaveBeenCalledWith(['bob']);
  expect(offline).toHaveBeenCalledWith(['eve']);
});

test('a presence channel whose auth does not say who the member is waits for the sign-in', async () => {
  const made = connected({ auth });
  const signin = made.signin();
  const channel = made.channel('presence-room');
  await settled();
  expect(last().sentOf('pusher:subscribe')).toEqual([]);
  await confirmed();
  await signin;
  await settled();
  expect(last().sentOf('pusher:subscribe').at(-1)).toMatchObject({ channel: 'presence-room' });
  expect(channel.myId).toBe('ada');
});
