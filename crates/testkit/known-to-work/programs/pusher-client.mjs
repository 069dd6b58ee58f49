// npm pusher-client, a client of 2014 for Node that is still downloaded.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { host, port, key, auth, channels } = JSON.parse(process.env.TARGET);
const Client = createRequire(join(process.env.PACKAGES, 'package.json'))('pusher-client');
const pusher = new Client(key, { host, wsPort: port, authEndpoint: auth, encrypted: false });
const print = (event, channel, data) => console.log(JSON.stringify({ event, channel, data }));
for (const name of channels) {
  const channel = pusher.subscribe(name);
  for (const event of ['pusher_internal:subscription_succeeded', 'pusher:subscription_succeeded', 'success']) {
    channel.bind(event, () => print('pusher:subscription_succeeded', name));
  }
  channel.bind('tick', (data) => print('tick', name, data));
}
