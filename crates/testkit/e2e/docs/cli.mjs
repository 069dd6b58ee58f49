// What the blocks of docs/cli.md need: clients, a receiver of webhooks, and the ids of what was made.
import { until } from '../cluster/until.mjs';
import { freePort } from '../harness.mjs';
import { listens } from '../pages.mjs';
import { LANGUAGES } from './languages.mjs';
import { APP } from './session.mjs';
import { connectAda, occupyChannel, publishing, startRedis } from './steps.mjs';

const WEBHOOK = 'wh_0123456789abcdef0123';

export const CLI = {
  app: false,
  postgres: true,
  env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' },
  replace: async (page) => ({ 'http://10.0.0.1:6001': page.url, 'http://10.0.0.2:6001': page.url, 3000: await freePort(), 'publisher shop': `publisher docs_${page.port}`, 'fanfare publish my-channel': `fanfare publish --app ${APP.id} my-channel`, 'fanfare sign-url': `fanfare sign-url --app ${APP.id}` }),
  setup: (page) => page.shell(`
    echo '{"providers":[{"algorithms":["HS256"],"secret":"${'s'.repeat(32)}"}]}' >identity.json
    echo 'a password that nobody guesses' >password.txt`),
  runs: {
    'fanfare app list --server': async (block, page) => {
      await page.shell('printf %s "$TOKEN" >token.txt');
      await LANGUAGES.sh(block, page);
    },
    'fanfare app delete': async (block, page) => {
      await LANGUAGES.sh(block, page);
      // What follows is about the app that the block deletes in the end.
      await page.shell(`fanfare app create --name Shop --id ${APP.id} --key ${APP.key} --secret ${APP.secret} --client-events --setting 'history=[{"channels":"room-*","size":10,"ttl":60}]'`);
      await page.settle();
      page.clients = connectAda(page);
      await publishing(page, 'lamp');
      await startReceiver(page);
    },
    'fanfare app clients': there,
    'fanfare channel list': there,
    'fanfare key create': async ({ code, ...block }, page) => {
      // What follows needs the app's first key, which the block revokes in the end.
      const { key } = JSON.parse(await page.shell(`fanfare key create --app ${APP.id} --json`));
      await LANGUAGES.sh({ ...block, code: code.replaceAll(APP.key, key) }, page);
    },
    'fanfare webhook list': async ({ code, ...block }, page) => {
      await newWebhook(page);
      await LANGUAGES.sh({ ...block, code }, page);
      await newWebhook(page);
    },
    'fanfare webhook test': async (block, page) => {
      occupyChannel(page);
      const deliveries = page.fill(`fanfare webhook deliveries ${WEBHOOK} --json`);
      const [first] = await until('the webhook has a delivery', async () => {
        const { items } = JSON.parse(await page.shell(deliveries));
        return items.length > 0 && items;
      });
      page.replace({ 42: first.sequence, 41: first.sequence - 1 });
      await LANGUAGES.sh(block, page);
    },
    'fanfare webhook forward': there,
    'fanfare outbox install': async (block, page) => {
      await page.shell(`psql --quiet -c 'CREATE ROLE docs_${page.port}'`);
      await startRedis(page);
      await page.shell(page.fill(`printf %s ${page.database} | tee owner-url.txt >url.txt; printf %s redis://:secret@redis.internal:6379 >redis-url.txt`));
      await LANGUAGES.sh(block, page);
    },
    'fanfare session list': async (block, page) => {
      await page.shell('fanfare operator create ada@example.com --role admin && fanfare operator set-password ada@example.com --password-stdin <password.txt');
      const body = JSON.stringify({ name: 'ada@example.com', password: 'a password that nobody guesses' });
      await page.shell(`curl -X POST -H 'content-type: application/json' -d '${body}' $SERVER/api/v1/sessions`);
      page.replace({ ses_0123456789abcdef0123: JSON.parse(await page.shell('fanfare session list --operator ada@example.com --json'))[0].id });
      await LANGUAGES.sh(block, page);
    },
    'fanfare token show': async (block, page) => {
      page.replace({ tok_0123456789abcdef0123: JSON.parse(await page.shell('fanfare token create --name shown --role viewer --json')).id });
      await LANGUAGES.sh(block, page);
    },
    'fanfare signing-key rotate': async (block, page) => {
      await LANGUAGES.sh(block, page);
      await page.createToken();
      await page.shell('printf %s "$TOKEN" >token.txt');
    },
    'fanfare master-key rotate': async (block, page) => {
      await LANGUAGES.sh(block, page);
      await page.shell('fanfare serve');
    },
    'fanfare tail': there,
  },
};

/** Runs commands that need a running server, as somebody who has named it. */
async function there({ code, ...block }, page) {
  if (code.includes('123.456')) {
    page.closed = (page.closed ?? -1) + 1;
    await page.clients.until(new RegExp(`(.+\\n){${page.closed + 1}}`));
    page.replace({ '123.456': page.clients.printed.trim().split('\n')[page.closed] });
  }
  return LANGUAGES.sh({ ...block, code: `export FANFARE_SERVER=$SERVER FANFARE_TOKEN=$TOKEN\n${code}\nunset FANFARE_SERVER FANFARE_TOKEN\n` }, page);
}

/** A receiver that accepts what is signed right. */
async function startReceiver(page) {
  const port = page.fill('3000');
  const receiver = page.run('node', page.write('receiver.mjs', `import Pusher from 'pusher';
    import { createServer } from 'node:http';
    const pusher = new Pusher({ appId: '${APP.id}', key: '${APP.key}', secret: '${APP.secret}' });
    createServer(async (request, response) => {
      let rawBody = '';
      for await (const chunk of request.setEncoding('utf8')) rawBody += chunk;
      response.writeHead(pusher.webhook({ headers: request.headers, rawBody }).isValid() ? 200 : 401).end();
    }).listen(${port});`));
  await listens(receiver, Number(port));
  page.replace({ 'https://shop.example.com': `http://127.0.0.1:${port}` });
}

/** From now on the page's webhook is a new one. */
async function newWebhook(page) {
  const printed = await page.shell(page.fill(`fanfare webhook create --app ${APP.id} --url https://shop.example.com/hook --json`));
  page.replace({ [WEBHOOK]: JSON.parse(printed).id });
  await page.settle();
}
