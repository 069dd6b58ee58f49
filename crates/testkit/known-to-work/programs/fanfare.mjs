// @fanfare/client, or its drop-in for pusher-js, from the folder of the SDK.
import { pathToFileURL } from 'node:url';

const { port, url, key, auth, channels, module } = JSON.parse(process.env.TARGET);
const print = (event, channel, data) => console.log(JSON.stringify({ event, channel, data }));
const exported = await import(pathToFileURL(module));
if (exported.Fanfare) {
  const client = new exported.Fanfare(key, { url, auth: { endpoint: auth } });
  for (const name of channels) {
    const channel = client.channel(name);
    channel.on('subscribed', () => print('pusher:subscription_succeeded', name));
    channel.bind('tick', (data) => print('tick', name, data));
  }
} else {
  const pusher = new exported.default(key, {
    cluster: 'x', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, channelAuthorization: { endpoint: auth },
  });
  for (const name of channels) {
    const channel = pusher.subscribe(name);
    channel.bind('pusher:subscription_succeeded', () => print('pusher:subscription_succeeded', name));
    channel.bind('tick', (data) => print('tick', name, data));
  }
}
