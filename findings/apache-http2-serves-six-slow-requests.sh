#!/usr/bin/env bash
# Apache mod_http2: of one HTTP/2 connection six answers that don't end are served at a time, whatever H2MaxSessionStreams announces.
#
# Expected: as many as SETTINGS_MAX_CONCURRENT_STREAMS says (100 by default, 512 here); a client that is told 512 sends no more, and has
# no reason to open a second connection.
# Seen with Apache 2.4.71 (Debian 12): the settings say 512, the first six streams (SSE, long polls, downloads that are slow) get their
# data, and the seventh gets nothing, not even headers, until one of the six ends. The number that is served grows only when requests
# end, so browsers with seven tabs on SSE get no more than with HTTP/1.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get update -q >/dev/null 2>&1
apt-get install -q -y --no-install-recommends apache2-bin=2.4.71-1~deb12u1 openssl >/dev/null 2>&1
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out chain.pem 2>/dev/null

cat >probe.mjs <<'JS'
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { setTimeout as delay } from 'node:timers/promises';

const STREAMS = 20;
const backend = http
  .createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const timer = setInterval(() => response.write('data: event\n\n'), 200);
    response.on('close', () => clearInterval(timer));
  })
  .listen(0, '127.0.0.1');
await delay(100);
const probe = http.createServer().listen(0, '127.0.0.1');
await delay(100);
const { port } = probe.address();
probe.close();
const folder = process.cwd();
const modules = ['mpm_event', 'authz_core', 'http2', 'proxy', 'proxy_http', 'ssl'];
writeFileSync(
  'httpd.conf',
  `ServerRoot ${folder}
ServerName localhost
DefaultRuntimeDir ${folder}
PidFile ${folder}/pid
ErrorLog ${folder}/log
${modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
User www-data
Group www-data
Listen 127.0.0.1:${port}
Protocols h2
H2MaxSessionStreams 512
SSLEngine on
SSLCertificateFile ${folder}/chain.pem
SSLCertificateKeyFile ${folder}/key.pem
ProxyPass / http://127.0.0.1:${backend.address().port}/ flushpackets=on
`,
);
const apache = spawn('/usr/sbin/apache2', ['-f', `${folder}/httpd.conf`, '-DFOREGROUND'], { stdio: 'ignore' });
await delay(2000);
const client = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
client.on('error', (error) => console.log(error.code));
const settings = await new Promise((resolve) => client.on('remoteSettings', resolve));
let served = 0;
for (let index = 0; index < STREAMS; index += 1) {
  const stream = client.request({ ':path': '/events' });
  stream.on('error', () => {});
  stream.once('data', () => (served += 1));
  stream.resume();
  await delay(100);
}
await delay(3000);
console.log(`announced: ${settings.maxConcurrentStreams}`);
console.log(`of ${STREAMS} streams have events: ${served}`);
client.destroy();
apache.kill('SIGTERM');
await new Promise((resolve) => apache.on('exit', resolve));
process.exit();
JS
/usr/sbin/apache2 -v | head -n 1
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
announced: 512
of 20 streams have events: 6
TEXT
