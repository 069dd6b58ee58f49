// The web page of an application that uses the stock script.
import { readFile } from 'node:fs/promises';
import { startHttp } from './harness.mjs';

/** A web application: one page, the stock script, and its auth endpoint on the same origin. `first` runs before it. */
export async function startSite(authUrl, first = '') {
  const script = await readFile(new URL('./node_modules/pusher-js/dist/web/pusher.js', import.meta.url));
  const head = '<!doctype html><title>Test</title><link rel="icon" href="data:,">';
  const page = `${head}<script>${first}</script><script src="/pusher.js"></script>`;
  return startHttp(async (request, response) => {
    if (request.url === '/pusher/auth') {
      const upstream = await fetch(authUrl, { method: 'POST', body: request, duplex: 'half' });
      response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(await upstream.text());
    } else if (request.url === '/pusher.js') {
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
    } else {
      response.writeHead(200, { 'content-type': 'text/html' }).end(page);
    }
  });
}
