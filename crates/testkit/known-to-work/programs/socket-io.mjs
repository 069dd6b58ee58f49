// socket.io-client: with its defaults. It joins the channels on each connection, with the last position that it had.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { url, key, auth: endpoint, channels } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES, 'package.json'));
const loaded = load('socket.io-client');
const socket = (loaded.io ?? loaded)(`${url}/${key}`);
const positions = {};
const print = (event, channel, data) => console.log(JSON.stringify({ event, channel, data }));

socket.on('connect', async () => {
  if (socket.recovered) return;
  for (const name of channels) {
    const recover = positions[name] ? { position: positions[name] } : true;
    socket.emit('join', name, { ...(await authorize(name)), recover }, (answer) => console.log('join', name, JSON.stringify(answer)));
  }
});
socket.on('pusher:subscription_succeeded', (data, { channel }) => {
  if (!data.recovered) positions[channel] = data.position;
  print('pusher:subscription_succeeded', channel, data);
});
socket.on('tick', (data, { channel, position }) => {
  positions[channel] = position ?? positions[channel];
  print('tick', channel, data);
});
socket.on('disconnect', (reason) => console.log('disconnected', reason));
socket.on('connect_error', (error) => console.log('connect_error', error.message));

async function authorize(name) {
  if (!/^(private|presence)-/.test(name)) return {};
  const body = new URLSearchParams({ socket_id: socket.id, channel_name: name });
  return (await fetch(endpoint, { method: 'POST', body })).json();
}
