// npm pusher, from version 2 to 5, and pusher-http-edge, which has the same interface.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { host, port, id, key, secret, library = 'pusher' } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES, 'package.json'));
const Pusher = library === 'pusher' ? load('pusher') : (await import(pathToFileURL(load.resolve(library)))).default;
const pusher = new Pusher({ appId: id, key, secret, host, port: String(port), useTLS: false });
const major = library === 'pusher' ? parseInt(load('pusher/package.json').version) : 5;

const calls = {
  // Before version 5 the id stands by itself, and before 4 the answer comes by a callback.
  trigger: ({ channels, event, data, socketId }) =>
    answered((done) => pusher.trigger(channels, event, data, major < 5 ? socketId : socketId && { socket_id: socketId }, done)),
  batch: ({ batch }) => answered((done) => pusher.triggerBatch(batch, done)),
  channels: ({ prefix, info }) => got('/channels', { filter_by_prefix: prefix, info }),
  channel: ({ channel, info }) => got(`/channels/${channel}`, { info }),
  members: ({ channel }) => got(`/channels/${channel}/users`),
  authorize: ({ socketId, channelName, user }) =>
    (pusher.authorizeChannel ?? pusher.authenticate).call(pusher, socketId, channelName, channelName.startsWith('presence-') ? user : undefined),
  authenticate: ({ socketId, user }) => offered('authenticateUser') ?? pusher.authenticateUser(socketId, { id: user.user_id }),
  sendToUser: async ({ user, event, data }) => offered('sendToUser') ?? done(await pusher.sendToUser(user, event, data)),
  terminate: async ({ user }) => offered('terminateUserConnections') ?? done(await pusher.terminateUserConnections(user)),
  webhook: async ({ headers, body }) => ({ valid: await pusher.webhook({ headers, rawBody: body }).isValid() }),
};

function offered(method) {
  return pusher[method] ? undefined : { notOffered: true };
}

async function answered(call) {
  return done(await promised(call));
}

function done({ status, statusCode }) {
  if ((status ?? statusCode) !== 200) throw new Error(`answered ${status ?? statusCode}`);
  return {};
}

function promised(call) {
  if (major >= 4) return call();
  return new Promise((resolve, reject) => call((error, request, response) => (error ? reject(error) : resolve(response))));
}

async function got(path, query = {}) {
  if (major < 4) {
    return new Promise((resolve, reject) =>
      pusher.get({ path, params: query }, (error, request, response) => (error ? reject(error) : resolve(JSON.parse(response.body)))));
  }
  const response = await pusher.get({ path, params: query });
  if (response.status !== 200) throw new Error(`answered ${response.status}`);
  return response.json();
}

const { call, ...about } = JSON.parse(process.argv[2]);
try {
  console.log(JSON.stringify(await calls[call](about)));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message ?? error) }));
}
