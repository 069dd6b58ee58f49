#!/usr/bin/env bash
# Varnish: with `beresp.do_gzip` nothing of a slow stream reaches the client before the backend ends it.
#
# Expected: what a backend sends is compressed and passed on as it comes, as nginx, Apache and HAProxy do, or `Cache-Control:
# no-transform` switches the compression off.
# Seen with Varnish 7.1.1 (Debian 12), for `text/event-stream` with and without `no-transform`: an event each 400 ms, and not one of
# them within four seconds (the ten bytes of the gzip header come at once). Without `do_gzip` all of them arrive at once. VCL files that compress "everything textual" silence SSE and streams.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get update -q >/dev/null 2>&1
apt-get install -q -y --no-install-recommends varnish=7.1.1-2+deb12u1 >/dev/null 2>&1

cat >probe.mjs <<'JS'
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import zlib from 'node:zlib';

const backend = http
  .createServer((request, response) => {
    if (request.url === '/') return response.end('up');
    const control = request.url.includes('no-transform') ? 'no-store, no-transform' : 'no-store';
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': control });
    const timer = setInterval(() => response.write('data: event\n\n'), 400);
    response.on('close', () => clearInterval(timer));
  })
  .listen(0, '127.0.0.1');
await delay(100);
for (const gzip of [false, true]) {
  const probe = http.createServer().listen(0, '127.0.0.1');
  await delay(100);
  const { port } = probe.address();
  probe.close();
  writeFileSync(
    'vcl',
    `vcl 4.1;
backend b { .host = "127.0.0.1"; .port = "${backend.address().port}"; }
sub vcl_recv { return (pass); }
sub vcl_backend_response { set beresp.do_gzip = ${gzip}; }`,
  );
  const name = `${process.cwd()}/work-${gzip}`;
  const flags = ['-F', '-a', `127.0.0.1:${port}`, '-f', `${process.cwd()}/vcl`, '-n', name, '-j', 'none'];
  const varnish = spawn('varnishd', flags, { stdio: 'ignore' });
  process.on('exit', () => varnish.kill('SIGKILL'));
  while (!(await fetch(`http://127.0.0.1:${port}/`).then(({ ok }) => ok, () => false))) await delay(100);
  for (const path of ['/stream', '/stream?no-transform']) {
    let bytes = 0;
    const request = http.get({ port, path, headers: { 'accept-encoding': 'gzip' } }, (response) => {
      const gzip = response.headers['content-encoding'] === 'gzip';
      const decoder = gzip ? zlib.createGunzip({ flush: zlib.constants.Z_SYNC_FLUSH }) : new PassThrough();
      decoder.on('error', () => {});
      response.pipe(decoder).on('data', (chunk) => (bytes += chunk.length));
    });
    request.on('error', () => {});
    await delay(4000);
    request.destroy();
    console.log(`do_gzip ${gzip}, ${path}: ${bytes ? 'events arrive' : 'no event in 4 s'}`);
  }
  varnish.kill('SIGTERM');
}
process.exit();
JS
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
do_gzip false, /stream: events arrive
do_gzip false, /stream?no-transform: events arrive
do_gzip true, /stream: no event in 4 s
do_gzip true, /stream?no-transform: no event in 4 s
TEXT
