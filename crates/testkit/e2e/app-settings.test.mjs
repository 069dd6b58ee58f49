import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { heard, next, signedIn, startServer, subscribe } from './harness.mjs';

const server = await startServer({ settings: { watchlists: true, subscription_count: true } });
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

test('who watches is told who is online at sign-in, and then who comes and who goes', async () => {
  const bob = await signedIn(user('bob'));
  const ada = user('ada', ['bob', 'cy']);
  const seen = [];
  for (const change of ['online', 'offline']) {
    ada.user.watchlist.bind(change, ({ name, user_ids }) => seen.push([name, user_ids]));
  }
  const atFirst = next(ada.user.watchlist, 'offline');
  await signedIn(ada);
  await atFirst;
  assert.deepEqual(seen.splice(0).sort(), [['offline', ['cy']], ['online', ['bob']]]);

  const comes = next(ada.user.watchlist, 'online');
  await signedIn(user('cy'));
  await comes;
  // Another tab is no news, or it would be heard before the next change.
  await signedIn(user('cy'));
  const goes = next(ada.user.watchlist, 'offline');
  bob.disconnect();
  await goes;
  assert.deepEqual(seen, [['online', ['cy']], ['offline', ['bob']]]);
});

test('subscribers are told how many they are when somebody comes or goes', async () => {
  const first = server.client();
  const channel = first.subscribe('counted');
  await countOf(channel, 1);
  const second = server.client();
  const two = [countOf(channel, 2), countOf(second.subscribe('counted'), 2)];
  await Promise.all(two);
  assert.equal(channel.subscriptionCount, 2);
  const one = countOf(channel, 1);
  second.disconnect();
  await one;
  assert.equal(channel.subscriptionCount, 1);
});

test('a presence channel says who is there and has no count besides', async () => {
  const channel = server.client({ user: { user_id: 'ada' } }).subscribe('presence-uncounted');
  const counts = [];
  channel.bind('pusher:subscription_count', (count) => counts.push(count));
  await next(channel, 'pusher:subscription_succeeded');
  await subscribe(server.client({ user: { user_id: 'bob' } }), 'presence-uncounted');
  const fence = next(channel, 'fence');
  await sdk.trigger('presence-uncounted', 'fence', null);
  await fence;
  assert.deepEqual(counts, []);
});

function user(id, watchlist) {
  const customHandler = ({ socketId }, callback) => callback(null, sdk.authenticateUser(socketId, { id, watchlist }));
  return server.client({ userAuthentication: { customHandler } });
}

/** The count a client shows, as soon as it is the one that is waited for. */
function countOf(channel, count) {
  return heard(`a count of ${count}`, (resolve) => {
    channel.bind('pusher:subscription_count', ({ subscription_count }) => subscription_count === count && resolve());
  });
}
