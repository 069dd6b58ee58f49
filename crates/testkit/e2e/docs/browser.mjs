// One Chromium for all pages, which is started when the first of them needs it.
import { readFile } from 'node:fs/promises';
import { startBrowser } from '../browser.mjs';
import { startHttp } from '../harness.mjs';
import { until } from '../cluster/until.mjs';

let browser;

/** What an application would take from a CDN. */
const SCRIPTS = { '/pusher.js': 'pusher-js/dist/web/pusher.js', '/socket.io.js': 'socket.io-client/dist/socket.io.min.js' };

export async function stopBrowser() {
  await (await browser)?.stop();
}

/**
 * Opens a page of an application with a block of JavaScript, after `first`, or with one of HTML. It has pusher-js, and the application's
 * own auth endpoint. The result waits for what the page's console says.
 */
export async function browse({ language, code }, page, { first = '', user } = {}) {
  const html = language === 'html' ? page.fill(code).replace(/https:.*\/socket\.io\.min\.js/, '/socket.io.js').replace(/https:.*\/pusher\.min\.js/, '/pusher.js') : `<script type="module">${page.fill(first)}\n${page.fill(code)}</script>`;
  const site = await startHttp(async (request, response) => {
    const type = (name) => response.writeHead(200, { 'content-type': name });
    if (request.url === '/pusher/auth') {
      let body = '';
      for await (const chunk of request) body += chunk;
      const form = new URLSearchParams(body);
      type('application/json').end(JSON.stringify(page.sdk().authorizeChannel(form.get('socket_id'), form.get('channel_name'), user)));
    } else if (SCRIPTS[request.url]) {
      type('text/javascript').end(await readFile(new URL(`../node_modules/${SCRIPTS[request.url]}`, import.meta.url)));
    } else {
      type('text/html').end(`<!doctype html><title>Page</title><link rel="icon" href="data:,"><script src="/pusher.js"></script>${html}`);
    }
  });
  browser ??= startBrowser();
  const lines = [];
  const tab = await (await browser).open('about:blank');
  tab.on('console', (message) => lines.push(message.text()));
  tab.on('pageerror', (error) => lines.push(String(error)));
  await tab.goto(site.url);
  return {
    tab,
    lines,
    says: (what) => until(`the page says ${what}`, () => lines.some((line) => what.test(line)), { explain: () => lines.join('\n') }),
    async close() {
      await tab.close();
      await site.stop();
    },
  };
}
