#!/usr/bin/env bash
# lighttpd: after SIGUSR1 nobody new is served until the connections that are open have ended or graceful-shutdown-timeout has passed.
#
# Expected: new connections are served with the new configuration at once, as with nginx, HAProxy and Apache; a generous
# graceful-shutdown-timeout then keeps WebSockets and streams.
# Seen with lighttpd 1.4.69 (Debian 12), with one stream open and a time-out of five seconds: a request that comes after the signal waits
# for them. A generous time-out is a time in which the site is away.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get update -q >/dev/null 2>&1
apt-get install -q -y --no-install-recommends lighttpd=1.4.69-1 >/dev/null 2>&1

cat >probe.mjs <<'JS'
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const backend = http.createServer((request, response) => {
  if (request.url !== '/stream') return response.end('hello');
  const timer = setInterval(() => response.write('data: event\n\n'), 200);
  response.on('close', () => clearInterval(timer));
});
backend.listen(0, '127.0.0.1');
await once(backend, 'listening');
const probe = http.createServer().listen(0, '127.0.0.1');
await once(probe, 'listening');
const { port } = probe.address();
probe.close();
writeFileSync(
  'lighttpd.conf',
  `server.modules = ( "mod_proxy" )
server.document-root = "/var/empty"
server.bind = "127.0.0.1"
server.port = ${port}
server.stream-response-body = 2
server.feature-flags += ( "server.graceful-shutdown-timeout" => 5 )
proxy.server = ( "" => ( ( "host" => "127.0.0.1", "port" => ${backend.address().port} ) ) )
`,
);
const lighttpd = spawn('/usr/sbin/lighttpd', ['-D', '-f', 'lighttpd.conf'], { stdio: 'ignore' });
await delay(1000);
for (const open of [false, true]) {
  if (open) {
    const stream = http.get({ port, host: '127.0.0.1', path: '/stream', agent: false }, (response) => response.resume().on('error', () => {}));
    stream.on('error', () => {});
    await once(stream, 'response');
  }
  lighttpd.kill('SIGUSR1');
  await delay(200);
  const started = Date.now();
  for (;;) {
    const [response] = await once(http.get({ port, host: '127.0.0.1', agent: false }), 'response').catch(() => []);
    if (response) break;
    await delay(50);
  }
  const waited = (Date.now() - started) / 1000;
  console.error(`${open ? 'a stream is' : 'nothing is'} open: ${waited} s`);
  console.log(`${open ? 'a stream is' : 'nothing is'} open: ${waited < 3 ? 'served at once' : 'waits'}`);
}
lighttpd.kill('SIGKILL');
process.exit();
JS
/usr/sbin/lighttpd -v
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
nothing is open: served at once
a stream is open: waits
TEXT
