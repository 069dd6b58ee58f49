// Coming back without a gap, on the real server, and on a small one that can be made to forget.
import assert from 'node:assert/strict';
import { after, afterEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import PusherJs from 'pusher-js';
import WebSocket from 'ws';
import { startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { Fanfare } from '../../dist/es/index.js';
import FanfarePusher from '../../dist/es/pusher.js';
import { recover } from '../../dist/es/recover.js';
import { startFakeServer } from '../support/fake-server.mjs';
import { startNetwork } from '../support/network.mjs';
import { until } from '../support/wait.mjs';

const backends = {
  'a small server': async () => {
    const fake = await startFakeServer();
    return {
      key: 'key',
      port: fake.port,
      auth: (_, channelName) => ({
        auth: 'key:signature',
        ...(channelName.startsWith('presence-') && { channel_data: '{"user_id":"ada","user_info":{"name":"Ada"}}' }),
      }),
      publish: async (channel, event, data, options) => fake.publish(channel, event, data, options),
      forget: async () => fake.forget(),
      stop: () => fake.stop(),
    };
  },
  'the real server': async () => {
    const history = JSON.stringify([{ channels: '*', size: 1000, ttl: 300 }]);
    const server = await startServer({ settings: { history } });
    const sdk = server.sdk();
    return {
      key: server.app.key,
      port: server.port,
      auth: (socketId, channelName) =>
        sdk.authorizeChannel(socketId, channelName, { user_id: 'ada', user_info: { name: 'Ada' } }),
      publish: (channel, event, data, { socketId } = {}) =>
        sdk.trigger(channel, event, data, socketId && { socket_id: socketId }),
      // What one node by itself remembers ends with it.
      forget: async () => {
        await server.end();
        await server.start();
      },
      stop: () => server.stop(),
    };
  },
};

for (const [name, start] of Object.entries(backends)) {
  describe(name, async () => {
    const backend = await start();
    const network = await startNetwork(backend.port);
    const clients = new Set();
    const sockets = new Set();
    after(async () => {
      await network.stop();
      await backend.stop();
    });
    afterEach(() => {
      clients.forEach((client) => client.disconnect());
      clients.clear();
      // In Node, pusher-js starts a timer of 30 s when it closes a socket; the process would wait for it.
      sockets.forEach((socket) => socket._closeTimer?.unref());
      sockets.clear();
      network.up();
    });

    let lastName = 0;
    const fresh = (prefix) => `${prefix}${(lastName += 1)}`;

    const kinds = {
      '@fanfare/client': () => {
        const client = new Fanfare(backend.key, {
          url: network.url,
          WebSocket,
          transports: ['websocket'],
          auth: { channel: ({ socketId, channelName }) => backend.auth(socketId, channelName) },
          backoff: { first: 200 },
        });
        client.on('error', () => {});
        clients.add(client);
        return {
          socketId: () => client.socketId,
          async subscribe(channelName, options) {
            const channel = client.channel(channelName, options);
            const seen = {
              events: [],
              gaps: [],
              recovered: 0,
              subscribed: () => channel.state === 'subscribed',
              trigger: (event, data) => channel.trigger(event, data),
            };
            channel.bindAll(({ data }) => seen.events.push(data));
            channel.on('gap', ({ reason }) => seen.gaps.push(reason));
            channel.on('recovered', () => (seen.recovered += 1));
            await channel.ready();
            return seen;
          },
          unsubscribe: (channelName) => client.channel(channelName).unsubscribe(),
        };
      },
      '@fanfare/client/pusher': () => ofPusher(new FanfarePusher(backend.key, pusherOptions())),
      'pusher-js with recover()': () => ofPusher(recover(new PusherJs(backend.key, pusherOptions()))),
    };

    function pusherOptions() {
      return {
        cluster: 'x',
        wsHost: '127.0.0.1',
        wsPort: network.port,
        forceTLS: false,
        enabledTransports: ['ws'],
        WebSocket,
        channelAuthorization: {
          customHandler: ({ socketId, channelName }, callback) => callback(null, backend.auth(socketId, channelName)),
        },
      };
    }

    function ofPusher(pusher) {
      clients.add(pusher);
      pusher.connection.bind('connected', () => sockets.add(pusher.connection.connection?.transport.socket ?? {}));
      return {
        socketId: () => pusher.connection.socket_id,
        async subscribe(channelName) {
          const channel = pusher.subscribe(channelName);
          const seen = {
            events: [],
            gaps: [],
            subscribed: () => channel.subscribed,
            trigger: (event, data) => channel.trigger(event, data),
          };
          channel.bind_global((event, data) => /^(e|client-e)$/.test(event) && seen.events.push(data));
          channel.bind('fanfare:gap', ({ reason }) => seen.gaps.push(reason));
          await until(() => channel.subscribed);
          return seen;
        },
        unsubscribe: (channelName) => pusher.unsubscribe(channelName),
      };
    }

    for (const [kind, make] of Object.entries(kinds)) {
      const it = (what, script) => test(`${kind}: ${what}`, script);

      it('nothing is lost, doubled or out of order while the network comes and goes', async () => {
        const name = fresh('orders-');
        const seen = await make().subscribe(name);
        let n = 0;
        for (let round = 0; round < 5; round += 1) {
          for (let k = 0; k < 10; k += 1) {
            await backend.publish(name, 'e', (n += 1));
            if (k === 3) network.down();
            if (k === 7) network.up();
          }
        }
        await until(() => seen.events.length >= n);
        assert.deepEqual(
          seen.events,
          Array.from({ length: n }, (_, k) => k + 1),
        );
        assert.deepEqual(seen.gaps, []);
      });

      it('a presence channel comes back with what it missed', async () => {
        const name = fresh('presence-room-');
        const seen = await make().subscribe(name);
        network.down();
        await backend.publish(name, 'e', 1);
        network.up();
        await until(() => seen.events.length === 1);
      });

      it('own client events, and what left this connection out, do not come back', async () => {
        const name = fresh('private-chat-');
        const client = make();
        const seen = await client.subscribe(name);
        await backend.publish(name, 'e', 0);
        await until(() => seen.events.length === 1);
        seen.trigger('client-e', 'own');
        await backend.publish(name, 'e', 'left out', { socketId: client.socketId() });
        await backend.publish(name, 'e', 1);
        await until(() => seen.events.length === 2);
        network.down();
        await backend.publish(name, 'e', 2);
        network.up();
        await until(() => seen.events.length >= 3);
        await backend.publish(name, 'e', 3);
        await until(() => seen.events.includes(3));
        assert.deepEqual(seen.events, [0, 1, 2, 3]);
      });

      it('own events do not come back after the second lost connection either', async () => {
        const name = fresh('private-chat-');
        const client = make();
        const seen = await client.subscribe(name);
        for (let n = 1; n <= 2; n += 1) {
          const before = client.socketId();
          await backend.publish(name, 'e', n);
          await until(() => seen.events.length === n);
          seen.trigger('client-e', 'own');
          await delay(50);
          network.down();
          network.up();
          await until(() => client.socketId() && client.socketId() !== before && seen.subscribed());
        }
        await backend.publish(name, 'e', 3);
        await until(() => seen.events.includes(3));
        assert.deepEqual(seen.events, [1, 2, 3]);
      });

      it('who unsubscribes and subscribes again begins anew', async () => {
        const name = fresh('orders-');
        const client = make();
        await client.subscribe(name);
        client.unsubscribe(name);
        // What is on its way to pusher-js at that moment would arrive.
        await delay(200);
        await backend.publish(name, 'e', 1);
        const seen = await client.subscribe(name);
        await backend.publish(name, 'e', 2);
        await until(() => seen.events.length > 0);
        assert.deepEqual(seen.events, [2]);
      });

      it('what cannot be recovered is told, and nothing is replayed', async () => {
        const name = fresh('orders-');
        const seen = await make().subscribe(name);
        network.down();
        await backend.forget();
        await backend.publish(name, 'e', 1);
        network.up();
        await until(() => seen.gaps.length === 1);
        await backend.publish(name, 'e', 2);
        await until(() => seen.events.length === 1);
        assert.deepEqual([seen.gaps, seen.events], [['expired'], [2]]);
      });
    }

    test('@fanfare/client: the application may ask for the last events before it came', async () => {
      const name = fresh('orders-');
      for (let n = 1; n <= 5; n += 1) await backend.publish(name, 'e', n);
      const seen = await kinds['@fanfare/client']().subscribe(name, { rewind: 2 });
      await backend.publish(name, 'e', 6);
      await until(() => seen.events.includes(6));
      assert.deepEqual(seen.events, [4, 5, 6]);
    });

    test('@fanfare/client: the application is told that all of it was recovered', async () => {
      const name = fresh('orders-');
      const seen = await kinds['@fanfare/client']().subscribe(name);
      network.down();
      network.up();
      await until(() => seen.recovered === 1);
    });
  });
}
