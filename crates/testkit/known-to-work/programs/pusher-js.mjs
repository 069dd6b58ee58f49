// pusher-js in Node: with its defaults, but for where the server and the app's auth endpoint are.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { host, port, tls, key, auth, channels, recover, fallbacks } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES, 'package.json'));
const exported = load('pusher-js');
// 8.5.0 exports an object in Node, all others the constructor.
const Pusher = exported.Pusher ?? exported;
const pusher = new Pusher(key, {
  cluster: 'x',
  wsHost: host,
  wsPort: port,
  wssPort: port,
  forceTLS: tls,
  ...(fallbacks ? { httpHost: host, httpPort: port } : { enabledTransports: ['ws'] }),
  disableStats: true,
  // Versions before 7.1 have the first of these.
  authEndpoint: auth,
  channelAuthorization: { endpoint: auth, transport: 'ajax' },
});
if (recover) (await import(recover)).recover(pusher);
const print = (event, channel, data) => console.log(JSON.stringify({ event, channel, data }));
for (const name of channels) {
  const channel = pusher.subscribe(name);
  channel.bind('pusher:subscription_succeeded', () => print('pusher:subscription_succeeded', name));
  channel.bind('pusher:subscription_error', (error) => console.log('refused', name, error));
  channel.bind('tick', (data) => print('tick', name, data));
}
pusher.connection.bind('state_change', ({ previous, current }) => console.log(previous, '->', current));
