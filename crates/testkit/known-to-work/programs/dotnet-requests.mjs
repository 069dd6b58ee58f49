// The requests of NuGet's PusherServer 5.0.0, built as its source builds them (AuthenticatedRequestFactory, PusherRestClient, Pusher), for
// machines without its runtime: the signature stands first in the query, and parameters are not encoded.
import { createHash, createHmac } from 'node:crypto';

const { host, port, id, key, secret } = JSON.parse(process.env.TARGET);
const hmac = (text) => createHmac('sha256', secret).update(text).digest('hex');

async function send(method, resource, parameters = {}, body) {
  const text = body && JSON.stringify(body);
  const all = { ...parameters, auth_key: key, auth_timestamp: Math.floor(Date.now() / 1000), auth_version: '1.0' };
  if (text) all.body_md5 = createHash('md5').update(text).digest('hex');
  const query = Object.keys(all).sort().map((name) => `${name}=${all[name]}`).join('&');
  const path = `/apps/${id}/${resource}`;
  const headers = { accept: 'application/json', 'pusher-library-name': 'pusher-http-dotnet', 'pusher-library-version': '5.0.0' };
  if (text) headers['content-type'] = 'application/json; charset=utf-8';
  const url = `http://${host}:${port}${path}?auth_signature=${hmac(`${method}\n${path}\n${query}`)}&${query}`;
  const response = await fetch(url, { method, headers, body: text });
  if (response.status !== 200) throw new Error(`answered ${response.status}`);
  return response.json();
}

function signed(text, data) {
  return { auth: `${key}:${hmac(`${text}${data}`)}` };
}

const calls = {
  trigger: ({ channels, event, data, socketId }) =>
    send('POST', 'events', {}, { name: event, data: JSON.stringify(data), channels, socket_id: socketId }),
  batch: ({ batch }) =>
    send('POST', 'batch_events', {}, { batch: batch.map(({ channel, name, data }) => ({ name, data: JSON.stringify(data), channel })) }),
  channels: ({ prefix, info }) => send('GET', 'channels', { filter_by_prefix: prefix, info }),
  channel: ({ channel, info }) => send('GET', `channels/${channel}`, { info }),
  members: ({ channel }) => send('GET', `channels/${channel}/users`),
  authorize({ socketId, channelName, user }) {
    if (!channelName.startsWith('presence-')) return signed(`${socketId}:${channelName}`, '');
    const data = JSON.stringify(user);
    return { ...signed(`${socketId}:${channelName}:`, data), channel_data: data };
  },
  authenticate({ socketId, user }) {
    const data = JSON.stringify({ id: user.user_id });
    return { ...signed(`${socketId}::user::`, data), user_data: data };
  },
  // It has no method of its own for either.
  sendToUser: ({ user, event, data }) => calls.trigger({ channels: [`#server-to-user-${user}`], event, data }),
  terminate: () => ({ notOffered: true }),
  webhook: ({ headers, body }) => ({ valid: headers['x-pusher-signature'] === hmac(body) }),
};

const { call, ...about } = JSON.parse(process.argv[2]);
try {
  console.log(JSON.stringify(await calls[call](about)));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message) }));
}
