import { expect, test, vi } from 'vitest';
import Pusher from '../../src/pusher.js';
import { ScriptedSocket } from '../support/scripted-socket.js';
import './setup.js';

test('a channel may have the name of a property of every object', () => {
  vi.stubGlobal('WebSocket', ScriptedSocket);
  const pusher = new Pusher('KEY', { cluster: 'x', wsHost: 'realtime.example.com' });
  for (const name of ['constructor', 'toString', 'hasOwnProperty']) expect(pusher.subscribe(name).name).toBe(name);
  expect(pusher.channel('valueOf')).toBeUndefined();
  pusher.disconnect();
});
