// Unmodified clients over TLS, through proxies that many machines have already: Apache, lighttpd, and hitch with Varnish.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { next, startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';
import { testClients, testSeveralNodes } from './proxy-suite.mjs';

const NAMES = ['apache', 'lighttpd', 'varnish'];
NAMES.forEach(testClients);
testClients('stunnel');
NAMES.forEach(testSeveralNodes);

test('a proxy may take a path prefix away: clients connect below it, and backends sign without it', { skip: missing('haproxy') }, async (t) => {
  const server = await startServer({ env: { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1' } });
  t.after(() => server.stop());
  const { changes, ...haproxy } = PROXIES.haproxy;
  const strip = ['#: http-request replace-path', 'http-request replace-path'];
  const front = await startProxy({ ...haproxy, changes: (places) => [...changes(places), strip] }, [server]);
  t.after(() => front.stop());
  const host = `127.0.0.1:${front.https}/realtime`;
  // Without `port`, what is said here precedes the path in the URL and is no part of what is signed.
  const backend = server.sdk({ host, port: undefined, useTLS: true });
  for (const transport of ['ws', 'xhr_streaming']) {
    const client = server.client({
      forceTLS: true,
      wssPort: front.https,
      wsPath: '/realtime',
      httpHost: '127.0.0.1',
      httpsPort: front.https,
      httpPath: '/realtime/pusher',
      enabledTransports: [transport],
    });
    const channel = await subscribe(client, 'private-news');
    const received = next(channel, 'headline');
    await backend.trigger('private-news', 'headline', { transport });
    assert.deepEqual(await received, { transport });
    const { status } = await backend.get({ path: '/channels' });
    assert.equal(status, 200);
  }
  // A path that is signed as it is in the URL isn't the one that Fanfare sees.
  const signed = backend.createSignedQueryString({ method: 'GET', path: `/realtime/apps/${server.app.id}/channels` });
  const answer = await fetch(`https://${host}/apps/${server.app.id}/channels?${signed}`);
  assert.equal(answer.status, 401);
});
