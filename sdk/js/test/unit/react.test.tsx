// @vitest-environment jsdom
import { act, StrictMode, type ReactNode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Fanfare } from '../../src/index.js';
import { FanfareProvider, useChannel, useConnectionState, useEvent, useGap, usePresence } from '../../src/react.js';
import { ScriptedSocket } from '../support/scripted-socket.js';

const last = () => ScriptedSocket.last;
let client: Fanfare;
let root: Root | undefined;
let page: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  ScriptedSocket.all = [];
  client = new Fanfare('KEY', {
    url: 'https://host',
    WebSocket: ScriptedSocket,
    transports: ['websocket'],
    auth: { channel: () => ({ auth: 'KEY:signature', channel_data: '{"user_id":"ada"}' }) },
  });
  page = document.createElement('div');
});

afterEach(() => {
  act(() => root?.unmount());
  root = undefined;
  client.disconnect();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function show(content: ReactNode): Promise<void> {
  root ??= createRoot(page);
  await act(async () =>
    root!.render(
      <StrictMode>
        <FanfareProvider client={client}>{content}</FanfareProvider>
      </StrictMode>,
    ),
  );
}

const happens = (action: () => unknown) => act(async () => void action());

function Orders({ name = 'orders', onShipped }: { name?: string; onShipped: (data: unknown) => void }) {
  useEvent(name, 'shipped', onShipped);
  return <p>{useConnectionState()}</p>;
}

test('a component hears each event once, in StrictMode too, with its latest listener', async () => {
  const [first, second] = [vi.fn(), vi.fn()];
  await show(<Orders onShipped={first} />);
  expect(page.textContent).toBe('connecting');
  await happens(() => last().greet());
  expect(page.textContent).toBe('connected');
  expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  await happens(() => last().confirm('orders').receive('shipped', { id: 1 }, { channel: 'orders' }));
  await show(<Orders onShipped={second} />);
  await happens(() => last().receive('shipped', { id: 2 }, { channel: 'orders' }));
  expect(first.mock.calls).toEqual([[{ id: 1 }, {}]]);
  expect(second.mock.calls).toEqual([[{ id: 2 }, {}]]);
  expect(last().sentOf('pusher:unsubscribe')).toEqual([]);
});

test('components share a subscription, and the last one ends it', async () => {
  const heard = vi.fn();
  await show([<Orders key="1" onShipped={heard} />, <Orders key="2" onShipped={heard} />]);
  await happens(() => last().greet().confirm('orders').receive('shipped', 1, { channel: 'orders' }));
  expect(heard).toHaveBeenCalledTimes(2);
  expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  await show([<Orders key="1" onShipped={heard} />]);
  await happens(() => vi.advanceTimersByTime(0));
  expect(last().sentOf('pusher:unsubscribe')).toEqual([]);
  await show(null);
  await happens(() => vi.advanceTimersByTime(0));
  expect(last().sentOf('pusher:unsubscribe')).toEqual([{ channel: 'orders' }]);
  expect(client.channels()).toEqual([]);
});

test('another name is another subscription', async () => {
  const heard = vi.fn();
  await show(<Orders onShipped={heard} />);
  await happens(() => last().greet().confirm('orders'));
  await show(<Orders name="returns" onShipped={heard} />);
  await happens(() => vi.advanceTimersByTime(0));
  expect(last().sentOf('pusher:unsubscribe')).toEqual([{ channel: 'orders' }]);
  await happens(() => last().confirm('returns').receive('shipped', 1, { channel: 'returns' }));
  expect(heard).toHaveBeenCalledOnce();
});

test('a subscription of the application outlives the components', async () => {
  const channel = client.channel('orders');
  await show(<Orders onShipped={() => {}} />);
  await happens(() => last().greet().confirm('orders'));
  await show(null);
  await happens(() => vi.advanceTimersByTime(0));
  expect(channel.state).toBe('subscribed');
});

test('no name is no subscription', async () => {
  function Nothing() {
    return <p>{useChannel(null) === null ? 'none' : 'some'}</p>;
  }
  await show(<Nothing />);
  expect(page.textContent).toBe('none');
  expect(client.state).toBe('initialized');
});

test('useChannel gives the channel while it is subscribed to', async () => {
  function Name() {
    return <p>{useChannel('private-chat')?.name ?? 'none'}</p>;
  }
  await show(<Name />);
  expect(page.textContent).toBe('private-chat');
});

test('usePresence shows who is there', async () => {
  function Room() {
    const { members, count, me } = usePresence<{ name: string }>('presence-room');
    return <p>{`${count} ${members.map(({ info }) => info?.name).join()} ${me?.id}`}</p>;
  }
  await show(<Room />);
  expect(page.textContent).toBe('0  undefined');
  await happens(() => last().greet());
  const hash = { ada: { name: 'Ada' } };
  await happens(() => last().confirm('presence-room', { presence: { ids: ['ada'], hash, count: 1 } }));
  expect(page.textContent).toBe('1 Ada ada');
  const bob = { user_id: 'bob', user_info: { name: 'Bob' } };
  await happens(() => last().receive('pusher_internal:member_added', bob, { channel: 'presence-room' }));
  expect(page.textContent).toBe('2 Ada,Bob ada');
});

test('useGap tells that the state must be fetched anew', async () => {
  const told = vi.fn();
  function Watch() {
    useGap('orders', told);
    return null;
  }
  await show(<Watch />);
  await happens(() => last().greet().confirm('orders', { position: 'p' }).end());
  await happens(() => vi.advanceTimersByTime(1000));
  await happens(() => last().greet().confirm('orders', { recovered: false, reason: 'expired' }));
  expect(told.mock.calls).toEqual([[{ reason: 'expired' }]]);
});

test('rendering on a server connects to nothing', () => {
  const html = renderToString(
    <FanfareProvider client={client}>
      <Orders onShipped={() => {}} />
    </FanfareProvider>,
  );
  expect(html).toBe('<p>initialized</p>');
  expect(ScriptedSocket.all).toEqual([]);
  expect(client.state).toBe('initialized');
});

test('hooks without a provider say what to do', () => {
  expect(() => renderToString(<Orders onShipped={() => {}} />)).toThrow(/FanfareProvider/);
});
