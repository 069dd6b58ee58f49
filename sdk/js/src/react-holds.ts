import type { Channel, SubscribeOptions } from './channel.js';
import type { Fanfare } from './client.js';

interface Hold {
  channel: Channel<any>;
  count: number;
  /** Whether the application had subscribed before, so that the channel stays when all components are gone. */
  foreign: boolean;
}

const holds = new WeakMap<Fanfare, Map<string, Hold>>();

/** Subscribes for a component. The last one to release a channel unsubscribes from it. */
export function hold(
  client: Fanfare,
  name: string,
  options: SubscribeOptions,
): { channel: Channel<any>; release(): void } {
  let held = holds.get(client);
  if (!held) holds.set(client, (held = new Map()));
  let mine = held.get(name);
  // The application may have unsubscribed from it since.
  if (mine && !client.channels().includes(mine.channel)) mine = undefined;
  if (!mine) {
    const foreign = client.channels().some((it) => it.name === name);
    mine = { channel: client.channel(name, options), count: 0, foreign };
    held.set(name, mine);
  }
  const { channel } = mine;
  mine.count += 1;
  return { channel, release: () => release(held, name, mine) };
}

function release(held: Map<string, Hold>, name: string, mine: Hold): void {
  mine.count -= 1;
  // A component that mounts in the same moment, as in StrictMode or on the next page, keeps this subscription.
  setTimeout(() => {
    if (mine.count > 0 || held.get(name) !== mine) return;
    held.delete(name);
    if (!mine.foreign) mine.channel.unsubscribe();
  });
}
