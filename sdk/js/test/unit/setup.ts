import { afterEach, beforeEach, vi } from 'vitest';
import { Fanfare, type Options } from '../../src/index.js';
import { ScriptedSocket } from '../support/scripted-socket.js';

const clients: Fanfare[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  // Retries happen at the latest moment that they may.
  vi.spyOn(Math, 'random').mockReturnValue(1);
  ScriptedSocket.all = [];
});

afterEach(() => {
  clients.splice(0).forEach((client) => client.disconnect());
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** A client on scripted sockets. */
export function client(options: Options = {}): Fanfare {
  const made = new Fanfare('KEY', {
    url: 'https://realtime.example.com',
    WebSocket: ScriptedSocket,
    transports: ['websocket'],
    ...options,
  });
  made.on('error', () => {});
  clients.push(made);
  return made;
}

/** A client that is connected. */
export function connected(options: Options = {}): Fanfare {
  const made = client(options);
  made.connect();
  ScriptedSocket.last.greet();
  return made;
}

/** Lets what waits for promises only go on. */
export async function settled(): Promise<void> {
  for (let n = 0; n < 20; n += 1) await Promise.resolve();
}
