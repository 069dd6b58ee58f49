// What each page needs, beyond a server with an app, so that its blocks run.
import assert from 'node:assert/strict';
import { eventually, freePort } from '../harness.mjs';
import { listens } from '../pages.mjs';
import { until } from '../cluster/until.mjs';
import { blocks } from './blocks.mjs';
import { CLI } from './cli.mjs';
import { browse } from './browser.mjs';
import { LANGUAGES } from './languages.mjs';
import { APP } from './session.mjs';
import { connectAda, goesOn, identity, inPage, jsonWebToken, occupyChannel, publishes, publishing, recovers, startRedis, syntax, withoutTls, writeBoth } from './steps.mjs';

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
  'docs/tutorial.md': 'crates/testkit/e2e/tutorial.test.mjs',
};

/** The app of docs/channels.md, whose examples other pages go on with. */
const ROOM_APP = ['client_events=true', 'subscription_count=true', 'watchlists=true'];

/**
 * By page: what `startSession` takes, and of single blocks, by a part of their text, what runs them in the place of their language's
 * way: a function of the block and the page, or the path of a test that does, which must name the page. `elsewhere` has such a path for all
 * blocks of a language.
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
    replace: async (page) => ({
      'https://HOST': page.url, HOST: '127.0.0.1', KEY: APP.key, 3000: await freePort(),
      'forceTLS: true': `forceTLS: false, wsPort: ${page.port}, httpPort: ${page.port}`,
    }),
    setup: async (page) => {
      const provider = { algorithms: ['HS256'], secret: 's'.repeat(32) };
      page.write('hs256.json', JSON.stringify({ providers: [provider], grants: [{ channels: 'private-user-{sub}' }], sign_in: {} }));
      page.token = jsonWebToken({ sub: '42', exp: Math.floor(Date.now() / 1000) + 600 }, provider.secret);
      await page.shell(`fanfare app identity set ${APP.id} hs256.json\nexport TOKEN=${page.token}`);
    },
    runs: {
      'createServer(': async (block, page) => {
        const endpoint = page.run('node', page.write(block.file, page.fill(block.code)));
        await listens(endpoint, Number(page.fill('3000')));
      },
      // The tokens of what follows are of the provider above.
      'identity set': async (block, page) => {
        await LANGUAGES.sh(block, page);
        await page.shell(`fanfare app identity set ${APP.id} hs256.json`);
        await page.settle();
      },
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
    postgres: true,
    replace: (page) => ({ 'postgres://fanfare:secret@db/fanfare': page.database }),
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
      'export DATABASE_URL': async ({ code, ...block }, page) => {
        await LANGUAGES.sh({ ...block, code: `(\n${code})` }, page);
        await page.shell('fanfare serve');
      },
      'fanfare tail': async (block, page) => {
        await publishing(page, 'hello');
        await LANGUAGES.sh(block, page);
      },
      'fanfare connection close': async (block, page) => {
        const ada = connectAda(page);
        await ada.until(/\n/);
        page.replace({ '123.456': ada.printed.split('\n')[0] });
        await LANGUAGES.sh(block, page);
      },
    },
  },
  'docs/any-client.md': {
    app: ['client_events=true', 'socket_io.broadcast=chat', 'history=[{"channels":"news","size":10,"ttl":60}]'],
    env: { FANFARE_SOCKET_IO_DEFAULT_APP_KEY: APP.key },
    replace: (page) => ({ ID: APP.id, APP_KEY: APP.key, KEY: APP.key, SECRET: `'${APP.secret}'`, SERVER: `127.0.0.1:${page.port}`, 'demo-chat': 'chat-1' }),
    runs: anyClient(),
  },
  'docs/clients.md': { runs: { 'const pusher = new Pusher(': 'crates/testkit/e2e/quickstart.test.mjs' } },
  'docs/backup.md': {
    postgres: true,
    replace: (page) => ({
      "fanfare_cluster*' fanfare": `fanfare_cluster*' docs_${page.port}`,
      'createdb fanfare': `createdb docs_${page.port}_restored`,
      '--dbname fanfare': `--dbname docs_${page.port}_restored`,
      'postgres://fanfare@db/fanfare': `${page.database}_restored`,
    }),
    runs: {
      pg_dump: async (block, page) => {
        await page.shell(`FANFARE_MASTER_KEY=$(cat data/master.key) DATABASE_URL=${page.database} fanfare app create --name Shop`);
        await LANGUAGES.sh(block, page);
      },
    },
  },
  'docs/channels.md': { app: false },
  'docs/first-run.md': {
    app: false,
    serve: false,
    demo: true,
    runs: {
      'mkdir realtime': async (block, page) => {
        await LANGUAGES.sh(block, page);
        await page.createToken();
      },
      'fanfare publish --app 1234567 orders created': async (block, page) => {
        await LANGUAGES.sh(block, page);
        await until('the event is in the other terminal', () => page.terminal().includes('event: created\ndata: {"id":7}\n'));
      },
    },
  },
  'docs/history.md': {
    replace: (page) => ({ 'https://HOST': page.url }),
    runs: { 'recover(pusher)': recovers },
  },
  'docs/keys.md': {
    replace: { 'sealed 4 secrets': 'sealed … secrets' },
    runs: {
      // The page shows keys that have been used, from different places.
      'fanfare key list --app 1234567  ': async ({ code, output }, page) => {
        const printed = await page.shell(code);
        assert.equal(printed.split('\n')[0].replace(/ +/g, ' '), output.split('\n')[0].replace(/ +/g, ' '));
      },
      'fanfare webhook rotate-secret': async (block, page) => {
        const create = `fanfare webhook create --app ${APP.id} --url https://shop.example.com --format standard --json`;
        page.replace({ wh_0123456789abcdef0123: JSON.parse(await page.shell(create)).id });
        await LANGUAGES.sh(block, page);
      },
      'fanfare token revoke': async (block, page) => {
        const create = 'fanfare token create --name "deploy pipeline" --role viewer --json';
        page.replace({ tok_0123456789abcdef0123: JSON.parse(await page.shell(create)).id });
        await LANGUAGES.sh(block, page);
      },
    },
  },
  'docs/cli.md': CLI,
  'docs/clustering.md': {
    app: false,
    serve: false,
    postgres: true,
    replace: (page) => ({ 'postgres://fanfare:secret@localhost/fanfare': page.database }),
    runs: {
      FANFARE_CLUSTER_URL: async (block, page) => {
        await LANGUAGES.sh(block, page);
        for (const port of ['6001', '6002']) assert.equal((await fetch(page.fill(`http://127.0.0.1:${port}/readyz`))).status, 200);
      },
      'curl -N': async (block, page) => {
        await LANGUAGES.sh(block, page);
        await until('the event is in the other terminal', () => page.terminal().includes('event: created\ndata: {"id":7}\n'));
      },
    },
  },
  'docs/outbox.md': {
    postgres: true,
    replace: async (page) => ({
      'postgres://owner:secret@db.internal/shop': page.database,
      'publisher shop': `publisher docs_${page.port}`,
    }),
    setup: async (page) => {
      // An application's database, with the schema that a later block installs as well.
      await page.shell(`psql --quiet -c 'CREATE ROLE docs_${page.port}' -c 'CREATE TABLE orders (id int PRIMARY KEY, item text)'`);
      await page.shell(page.fill('fanfare outbox install --database postgres://owner:secret@db.internal/shop --publisher shop'));
      await startRedis(page);
    },
  },
  'docs/move-from-pusher.md': {
    app: false,
    runs: {
      'const servers =': 'crates/testkit/e2e/quickstart.test.mjs',
      'recover(pusher)': recovers,
    },
  },
  'docs/move-from-reverb.md': {
    setup: (page) => page.write('.env', 'REVERB_APP_ID=7\nREVERB_APP_KEY=reverb-key\nREVERB_APP_SECRET=reverb-secret\n'),
  },
  'docs/move-from-soketi.md': { runs: importedFrom('soketi.json', 'mysql', 'psql') },
  'docs/move-from-socket-io.md': {
    runs: {
      'const socket = io(': (block, page) => {
        const code = `await import('/socket.io.js');\n${block.code}\nsocket.on('connect', () => console.log('connected'));`;
        return inPage({ ...block, code }, page, { says: /^connected$/ });
      },
    },
  },
  'docs/move-from-sockudo.md': { runs: importedFrom('psql', 'config.json'), env: { SOCKUDO_DEFAULT_APP_ID: '8', SOCKUDO_DEFAULT_APP_KEY: 'sockudo-key', SOCKUDO_DEFAULT_APP_SECRET: 'sockudo-secret' } },
  'docs/live-events.md': {
    setup: (page) => publishing(page, 'hello'),
  },
  'docs/monitoring.md': {
    runs: {
      // What follows is about a server that has no address for operators.
      FANFARE_OPS_LISTEN: async (block, page) => {
        await LANGUAGES.sh(block, page);
        await page.shell('fanfare serve');
      },
    },
  },
  'docs/tls.md': {
    replace: (page) => ({ '/etc/fanfare/': `${page.folder}/`, '0.0.0.0:443': `127.0.0.1:${page.fill('6002')}` }),
    setup: (page) => page.shell(`for name in tls example.com example.org; do
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:$name -keyout $name.key -out $name.crt
    done`),
  },
  'docs/webhooks.md': {
    env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' },
    replace: async (page) => ({ 3000: await freePort(), 'after=1042': 'after=0', KEY: APP.key, SECRET: APP.secret }),
    setup: async (page) => {
      // Its receiver, in Node.
      const { code } = blocks('docs/webhooks.md').find(({ language, code: text }) => language === 'js' && text.includes('createServer'));
      page.receiver = page.run('node', page.write('receiver.mjs', page.fill(code)));
      await listens(page.receiver, Number(page.fill('3000')));
      page.replace({ 'https://shop.example.com': page.fill('http://127.0.0.1:3000') });
    },
    runs: webhookReceivers(),
  },
  'docs/sdk.md': {
    elsewhere: { ts: 'sdk/js/test/e2e/docs.test.mjs', tsx: 'sdk/js/test/e2e/docs.test.mjs' },
    replace: { APP_KEY: APP.key },
    runs: {
      'sdk/fanfare.js': (block, page) => inPage(block, page, { says: /^{id: 7}$/, act: publishes(page, 'orders', 'shipped', { id: 7 }) }),
      'sdk/recover.js': (block, page) => {
        const code = block.code.replace("'realtime.example.com'", "'127.0.0.1'").replace('forceTLS: true', `wsPort: ${page.port}, forceTLS: false`);
        return inPage({ ...block, code }, page, { says: /^{id: 7}$/, act: publishes(page, 'orders', 'shipped', { id: 7 }) });
      },
      'sdk/fanfare-encrypted.js': (block, page) => {
        return inPage(block, page, { says: /^{text: for your eyes}$/, act: publishes(page, 'private-encrypted-letters', 'letter', { text: 'for your eyes' }) });
      },
    },
  },
  'docs/presence.md': { app: ROOM_APP, setup: writeBoth },
};

/** The clients of that page: each gets an event in its language. */
function anyClient() {
  const order = (page) => publishes(page, 'orders', 'created', { id: 7 });
  const headline = (page) => publishes(page, 'news', 'headline', { id: 7 });
  const socketIo = (page) => `await import('/socket.io.js'); const socket = io('${page.url}/${APP.key}');`;
  return {
    "source.addEventListener('created', ({ data })": (block, page) => inPage(block, page, { says: /^{id: 7}$/, act: order(page) }),
    'function listen(lastId': (block, page) => {
      const first = `const url = '${page.url}/sse/${APP.key}?channels=orders'; const show = console.log;`;
      return inPage({ ...block, code: `${block.code}\nlisten();` }, page, { first, says: /^{id: 7}$/, act: order(page) });
    },
    'import httpx': (block, page) => {
      return goesOn(block, page, { first: `url = "${page.url}/sse/${APP.key}?channels=orders"`, says: /^created {"id":7}/m, act: order(page) });
    },
    "path: '/events/stream'": (block, page) => {
      const first = `import Pusher from 'pusher';
        const pusher = new Pusher({ appId: '${APP.id}', key: '${APP.key}', secret: '${APP.secret}', host: '127.0.0.1', port: ${page.port} });`;
      return goesOn(block, page, { first, says: /^event: created$/m, act: publishes(page, 'private-orders', 'created', { id: 7 }) });
    },
    'function signUrl(': async (block, page) => {
      const printed = await page.shell(`node ${page.write('sign.mjs', page.fill(block.code.replace(/^(signUrl\(.*\));$/m, 'console.log($1);')))}`);
      assert.equal((await fetch(printed.trim())).status, 200);
    },
    '?channels=news\');\n  socket.onmessage': (block, page) => inPage(block, page, { says: /^headline {id: 7}$/, act: headline(page) }),
    'const positions = {}': (block, page) => inPage(block, page, { says: /^headline {id: 7}$/, act: headline(page) }),
    'import json': (block, page) => goesOn(block, page, { says: /^headline news {'id': 7}/m, act: headline(page) }),
    'raw=demo-chat\');': async (block, page) => {
      const tab = await browse(block, page);
      await until('the chat shows what was said', async () => {
        await page.sdk().trigger('chat-1', 'client-message', 'hello');
        return (await tab.tab.textContent('#chat')).includes('hello');
      });
      await tab.close();
    },
    'socket.send("hello")': (block, page) => goesOn(block, page, { says: /^how are you/m, act: publishes(page, 'chat-1', 'message', 'how are you') }),
    'cdn.socket.io': async (block, page) => {
      const tab = await browse(block, page);
      await tab.tab.fill('#input', 'hello');
      await tab.tab.press('#input', 'Enter');
      await tab.tab.getByText('hello').waitFor().catch((error) => assert.fail(`${error.message}\n${tab.lines.join('\n')}`));
      await tab.close();
    },
    "socket.on('headline', (data, { channel })": (block, page) => inPage(block, page, { first: socketIo(page), says: /^true$/ }),
    'await authorize(': (block, page) => {
      const sign = `const authorize = async (socket_id, channel_name) => (await fetch('/pusher/auth', { method: 'POST', body: new URLSearchParams({ socket_id, channel_name }) })).json();
        await new Promise((resolve) => socket.on('connect', resolve));`;
      return inPage(block, page, { first: `${socketIo(page)}\n${sign}`, user: { user_id: 'ada' }, says: /^true$/ });
    },
    'import socketio': (block, page) => goesOn(block, page, { says: /^news {'id': 7}/m, act: headline(page) }),
  };
}

/** Each receiver of that page takes what is right and refuses what is wrong, as `fanfare webhook check` says. */
function webhookReceivers() {
  return {
    'import { createServer }': () => {}, // It runs since the page began.
    'after=1042&wait=30': async (block, page) => {
      occupyChannel(page);
      assert.match(await page.shell(page.fill(block.code)), /channel_occupied/);
    },
    'HTTPServer((': async (block, page) => {
      const port = await freePort();
      const receiver = page.run('python3', page.write('receiver.py', page.fill(block.code).replace(page.fill('3000'), port)));
      await listens(receiver, port);
      await page.shell(`fanfare webhook check --app ${APP.id} http://127.0.0.1:${port}/`);
      await receiver.stop();
    },
    'new Pusher\\Pusher(': (block, page) => syntax(block, page, 'php -l', (code) => `<?php ${code}`),
    'Pusher::Client.new': (block, page) => syntax(block, page, 'ruby -c', (code) => `def receive(request)\n${code}\nend`),
    'pusher.Client{': (block, page) => syntax(block, page, 'gofmt -e', (code) => `package main\nfunc main() {\n${code}\n}`),
    standardwebhooks: async (block, page) => {
      const secret = `whsec_${Buffer.from('s'.repeat(32)).toString('base64')}`;
      const first = `const rawBody = '{"type":"channel_occupied","data":{"channel":"orders"}}';
        const signer = new Webhook('${secret}'), at = new Date();
        const request = { headers: { 'webhook-id': 'wh_1', 'webhook-timestamp': String(Math.floor(at / 1000)), 'webhook-signature': signer.sign('wh_1', at, rawBody) } };`;
      const code = block.code.replace('whsec_…', secret).replace('const event', `${first}\nconst event`);
      assert.match(await page.shell(`node ${page.write('standard.mjs', `${code}\nconsole.log(event.type);`)}`), /^channel_occupied$/m);
    },
  };
}

/** The blocks with these words are run by the test of the quick starts, with what the databases' own clients would print. */
function importedFrom(...words) {
  return Object.fromEntries(words.map((word) => [word, 'crates/testkit/e2e/quickstart.test.mjs']));
}
