// As an application with ES modules uses the built package.
import Pusher from '@fanfare/client/pusher';
import PusherEncrypted from '@fanfare/client/pusher/with-encryption';
import { encryption } from '@fanfare/client/encrypted';
import { Fanfare, FanfareError, type Channel, type PresenceChannel } from '@fanfare/client';
import { FanfareProvider, useChannel, useConnectionState, useEvent, usePresence } from '@fanfare/client/react';
import { recover } from '@fanfare/client/recover';
import type * as PusherJs from 'pusher-js';

interface Orders {
  shipped: { id: number };
  cancelled: { id: number; reason: string };
}

const client = new Fanfare('key', { url: 'https://host', encryption, auth: { token: async () => 'token' } });
const orders: Channel<Orders> = client.channel<Orders>('private-orders', { rewind: 10 });
const off: () => void = orders.bind('cancelled', ({ reason }) => reason.toUpperCase());
// @ts-expect-error there is no such event
orders.bind('lost', () => {});
// @ts-expect-error events of the channel itself have names of their own
orders.on('shipped', () => {});
orders.on('gap', ({ reason }) => reason.length);
orders.on('error', (error: FanfareError) => error.status?.toFixed());

const room: PresenceChannel<Record<string, any>, { name: string }> = client.channel<
  Record<string, any>,
  { name: string }
>('presence-room');
room.on('join', ({ id, info }) => id + info.name);

async function read(): Promise<void> {
  for await (const event of orders) {
    if (event.event === 'shipped') event.data.id.toFixed();
    else event.data.reason.toUpperCase();
  }
}

declare const stock: PusherJs.default;
const pusher = recover(stock);
pusher.subscribe('orders').bind('shipped', () => {});
const dropIn = new Pusher('key', { wsHost: 'host', forceTLS: true });
dropIn.subscribe('presence-room').members.each(({ id }) => id);
new PusherEncrypted('key', { cluster: 'x' }).connection.bind('state_change', () => {});

export function Component(): void {
  useEvent<{ id: number }>('orders', 'shipped', ({ id }) => id.toFixed());
  const state: string = useConnectionState();
  const { members } = usePresence<{ name: string }>('presence-room');
  const channel = useChannel<Orders>('orders');
  void [state, members[0]?.info.name, channel?.state, FanfareProvider];
}
void [off, read];
