import { createContext, createElement, useContext, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { ReactNode } from 'react';
import type { Channel, EventMap, GapReason, Metadata } from './channel.js';
import type { Fanfare } from './client.js';
import type { ConnectionState } from './connection.js';
import { hold } from './react-holds.js';
import type { Member, PresenceChannel } from './presence.js';

const Context = createContext<Fanfare | null>(null);

/**
 * Provides `client` to the hooks below it. The client connects when a hook needs it, so never while rendering on a
 * server.
 */
export function FanfareProvider({ client, children }: { client: Fanfare; children?: ReactNode }) {
  return createElement(Context.Provider, { value: client }, children);
}

export function useFanfare(): Fanfare {
  const client = useContext(Context);
  if (!client)
    throw new Error('No client: put <FanfareProvider client={client}> around what uses hooks of @fanfare/client/react');
  return client;
}

export function useConnectionState(): ConnectionState {
  const client = useFanfare();
  return useSyncExternalStore(
    (changed) => client.on('state', changed),
    () => client.state,
    () => 'initialized',
  );
}

export interface ChannelOptions {
  /** Largest number of earlier events that the first subscription receives. */
  rewind?: number | undefined;
}

/**
 * Subscribes while the component is mounted, and returns the channel: null until then, and for a name that is null.
 * Components with the same channel share one subscription.
 */
export function useChannel<Events extends EventMap = EventMap>(
  name: string | null | undefined,
  options?: ChannelOptions,
): Channel<Events> | null {
  const [channel, setChannel] = useState<Channel<any> | null>(null);
  useHeld(name, options, (held) => {
    setChannel(held);
    return () => setChannel(null);
  });
  return channel;
}

/**
 * Calls `listener` for each event of this name while the component is mounted. It may be another function in each
 * render.
 */
export function useEvent<Data = any>(
  name: string | null | undefined,
  event: string,
  listener: (data: Data, metadata: Metadata) => void,
  options?: ChannelOptions,
): void {
  const latest = useLatest(listener);
  useHeld(name, options, (channel) => channel.bind(event, (...all) => latest.current(...all)), event);
}

/** Calls `listener` when events of the channel may be missing, so that the component can fetch its state again. */
export function useGap(name: string | null | undefined, listener: (details: { reason: GapReason }) => void): void {
  const latest = useLatest(listener);
  useHeld(name, undefined, (channel) => channel.on('gap', (details) => latest.current(details)));
}

export interface Presence<Info> {
  members: Member<Info>[];
  count: number;
  me: Member<Info> | undefined;
}

/** Returns the members of a presence channel, and renders again when they change. */
export function usePresence<Info = any>(name: `presence-${string}` | null | undefined): Presence<Info> {
  const [presence, setPresence] = useState<Presence<Info>>(NOBODY);
  useHeld(name, undefined, (held) => {
    const channel = held as unknown as PresenceChannel<EventMap, Info>;
    const show = () => {
      const members = [...channel.members].map(([id, info]) => ({ id, info }));
      setPresence({ members, count: members.length, me: channel.me });
    };
    show();
    const off = channel.on('members', show);
    return () => {
      off();
      setPresence(NOBODY);
    };
  });
  return presence;
}

const NOBODY: Presence<any> = { members: [], count: 0, me: undefined };

// Runs `use` in the same turn as the subscription, so that not even the first event is missed.
function useHeld(
  name: string | null | undefined,
  { rewind }: ChannelOptions = {},
  use: (channel: Channel<any>) => () => void,
  again?: unknown,
): void {
  const client = useFanfare();
  const latest = useLatest(use);
  useEffect(() => {
    if (!name) return undefined;
    const { channel, release } = hold(client, name, { rewind });
    const stop = latest.current(channel);
    return () => {
      stop();
      release();
    };
  }, [client, name, rewind, again, latest]);
}

function useLatest<Value>(value: Value): { readonly current: Value } {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}
