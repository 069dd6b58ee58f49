// Clients: those of Pusher's protocol, WebSocket libraries, clients of Server-Sent Events and of Socket.IO.
import { clientRow, steps } from './client-row.mjs';

const PUSHER = "Clients of Pusher's protocol";
const SOCKETS = 'WebSocket libraries';

export const kind = {
  title: 'Clients',
  intro: `
Each client is used by a program of a few lines in [programs](../../crates/testkit/known-to-work/programs),
with its defaults, on a server with its defaults.

| column | what is tried |
| --- | --- |
| connects | It subscribes to a public, a private and a presence channel, as far as it has such. |
| order | It gets 50 events of each channel, published without a pause: all of them, once and in order. |
| idle 300 s | Nothing is sent for five minutes. It is still on the same connection and gets the next events. |
| comes back | The server is stopped and started again. It gets the events of all channels again by itself. |
| recovery | Events are published all the while on a channel with a [history](../history.md). It gets each that was answered with 200, once and in order. "Not offered" says how many it missed. |`,
  steps,
};

export const rows = [
  ...['8.6.0', '8.5.0', '8.4.0', '8.3.0'].map((version) => pusherJs(version)),
  ...['8.0.2', '7.6.0', '7.0.6', '6.0.3', '5.1.1', '4.4.0'].map((version) =>
    pusherJs(version, { set: '`httpHost` and `httpPort`: see [pusher-js](../move-from-pusher.md#pusher-js).', options: { fallbacks: true } }),
  ),
  ...Object.entries({ ws: '8.23.0', websocket: '1.0.35', undici: '7.30.2', 'faye-websocket': '0.11.4' }).map(([name, version]) =>
    clientRow({
      name: `npm ${name}`,
      group: SOCKETS,
      program: 'plain-ws.mjs',
      npm: { [name]: version },
      options: { library: name },
      channels: ['public', 'private'],
      recovers: true,
    }),
  ),
];

function pusherJs(version, more) {
  return clientRow({ name: `pusher-js ${version}`, group: PUSHER, program: 'pusher-js.mjs', npm: { 'pusher-js': version }, ...more });
}
