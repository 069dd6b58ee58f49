// What each page needs, beyond a server with an app, so that its blocks run.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { eventually } from '../harness.mjs';
import { until } from '../cluster/until.mjs';
import { blocks } from './blocks.mjs';
import { browse } from './browser.mjs';
import { LANGUAGES } from './languages.mjs';
import { APP } from './session.mjs';

/** Pages that a test of their own runs. That file must name the page. */
export const ELSEWHERE = {
  'docs/admin-api.md': 'crates/server/tests/it/admin/document.rs',
  'docs/outbox-examples.md': 'crates/testkit/e2e/outbox-examples.test.mjs',
  'docs/quickstart/README.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/go.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/laravel.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/node.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/php.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/python.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/quickstart/ruby.md': 'crates/testkit/e2e/quickstart.test.mjs',
  'docs/sdk.md': 'sdk/js/test/e2e/docs.test.mjs',
  'docs/tutorial.md': 'crates/testkit/e2e/tutorial.test.mjs',
};

/** Pages whose blocks are not yet run. */
export const LATER = [
  'deploy/helm/fanfare/README.md',
  'deploy/systemd/README.md',
  'docs/alerts.md',
  'docs/any-client.md',
  'docs/benchmarks.md',
  'docs/capacity.md',
  'docs/cli.md',
  'docs/clustering.md',
  'docs/configuration.md',
  'docs/dashboard.md',
  'docs/deployment.md',
  'docs/history.md',
  'docs/live-events.md',
  'docs/monitoring.md',
  'docs/move-from-pusher.md',
  'docs/outbox.md',
  'docs/protocol.md',
  'docs/quotas.md',
  'docs/tls.md',
  'docs/traces.md',
  'docs/usage.md',
  'docs/webhooks.md',
];

/** The app of docs/channels.md, whose examples other pages go on with. */
const ROOM_APP = ['client_events=true', 'subscription_count=true', 'watchlists=true'];

/**
 * By page: what `startSession` takes, and of single blocks, by a part of their text, what runs them in the place of their language's
 * way: a function of the block and the page, or the path of a test that does, which must name the page.
 */
export const PAGES = {
  'README.md': {
    app: false,
    postgres: true,
    env: { FANFARE_MASTER_KEY: '1'.repeat(64) },
    replace: (page) => ({ ...withoutTls(page), 'postgres://fanfare:secret@db/fanfare': page.database }),
    runs: {
      "pusher.subscribe('private-orders')": async (block, page) => {
        page.tab = await browse(block, page);
        await eventually(async () => {
          const { channels } = await (await page.sdk().get({ path: '/channels' })).json();
          if (!channels['private-orders']) throw new Error('nobody has subscribed to private-orders');
        });
      },
      'await pusher.trigger(': async (block, page) => {
        await LANGUAGES.js({ ...block, code: `import Pusher from 'pusher';\n${block.code}` }, page);
        await page.tab.says(/^{id: 42}$/);
        await page.tab.close();
      },
    },
  },
  'docs/channel-auth.md': {
    replace: (page) => ({ 'https://HOST': page.url, HOST: '127.0.0.1', KEY: APP.key, 'forceTLS: true': `forceTLS: false, wsPort: ${page.port}, httpPort: ${page.port}` }),
    setup: async (page) => {
      const provider = { algorithms: ['HS256'], secret: 's'.repeat(32) };
      page.write('hs256.json', JSON.stringify({ providers: [provider], grants: [{ channels: 'private-user-{sub}' }], sign_in: {} }));
      page.token = jsonWebToken({ sub: '42', exp: Math.floor(Date.now() / 1000) + 600 }, provider.secret);
      await page.shell(`fanfare app identity set ${APP.id} hs256.json\nexport TOKEN=${page.token}`);
    },
    runs: {
      'currentToken()': async (block, page) => {
        const first = `const currentToken = () => '${page.token}';`;
        const then = "pusher.channel('private-user-42').bind('pusher:subscription_succeeded', () => { console.log('subscribed'); pusher.signin(); });"
          + "pusher.bind_global((event) => console.log(event)); pusher.connection.bind('message', ({ event }) => console.log(event));";
        const tab = await browse({ ...block, code: `${block.code}${then}` }, page, { first });
        await tab.says(/^subscribed$/);
        await tab.says(/^pusher:signin_success$/);
        await tab.close();
      },
      '"sign_in": { "id": "sub", "user_info"': identity,
      'TENANT.id.example': identity,
      'sso.example.com': identity,
      '"audience": ["authenticated"]': identity,
    },
  },
  'docs/answers.md': {
    app: ROOM_APP,
    setup: writeBoth,
    runs: {
      'fanfare channel explain': async (block, page) => {
        page.write('left.mjs', `import { backend, connect } from './both.mjs';
          const client = connect('ada');
          client.subscribe('presence-room-1').bind('pusher:subscription_succeeded', async () => {
            client.disconnect();
            // Until the server has seen it go.
            const users = async () => (await backend.get({ path: '/channels/presence-room-1' })).text();
            while ((await users()).includes('true'));
            await backend.trigger('orders', 'created', {});
          });`);
        await page.shell('node left.mjs');
        await LANGUAGES.sh(block, page);
      },
    },
  },
  'docs/channels.md': { app: false },
  'docs/first-run.md': {
    app: false,
    demo: true,
    runs: {
      'fanfare publish --app 1234567 orders created': async (block, page) => {
        await LANGUAGES.sh(block, page);
        await until('the event is in the other terminal', () => page.terminal().includes('event: created\ndata: {"id":7}\n'));
      },
    },
  },
  'docs/keys.md': {
    runs: {
      // The page shows keys that have been used, from different places.
      'fanfare key list --app 1234567\n': async ({ code, output }, page) => {
        const printed = await page.shell(code);
        assert.equal(printed.split('\n')[0].replace(/ +/g, ' '), output.split('\n')[0].replace(/ +/g, ' '));
      },
    },
  },
  'docs/move-from-reverb.md': {
    setup: (page) => page.write('.env', 'REVERB_APP_ID=7\nREVERB_APP_KEY=reverb-key\nREVERB_APP_SECRET=reverb-secret\n'),
  },
  'docs/move-from-sockudo.md': { env: { SOCKUDO_DEFAULT_APP_ID: '8', SOCKUDO_DEFAULT_APP_KEY: 'sockudo-key', SOCKUDO_DEFAULT_APP_SECRET: 'sockudo-secret' } },
  'docs/presence.md': { app: ROOM_APP, setup: writeBoth },
};

/** What the samples of a page for a server with TLS become for one without. */
function withoutTls({ port }) {
  return { 'realtime.example.com': '127.0.0.1', 443: port, 'forceTLS: true': `forceTLS: false, wsPort: ${port}, httpPort: ${port}`, 'useTLS: true': 'useTLS: false' };
}

/** A document that says whose tokens an app accepts. */
async function identity({ code }, page) {
  page.write('identity.json', code);
  await page.shell(`fanfare app identity set ${APP.id} identity.json`);
}

function jsonWebToken(claims, secret) {
  const text = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** The file of docs/channels.md with both sides of an application. */
async function writeBoth(page) {
  const { file, code } = blocks('docs/channels.md').find(({ file: name }) => name === 'both.mjs');
  page.write(file, page.fill(code));
}
