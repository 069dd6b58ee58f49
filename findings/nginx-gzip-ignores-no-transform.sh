#!/usr/bin/env bash
# nginx: `gzip on` compresses an answer that says `Cache-Control: no-transform`, and a stream then costs about eight times the memory.
#
# Expected: `no-transform` switches compression off (RFC 9110, 7.7), as in HAProxy's `compression`.
# Seen with nginx 1.22.1 (Debian 12): a stream of `application/javascript` with `no-transform` is compressed all the same. 300 idle
# streams take about 100 KiB of the worker's memory each, without gzip about 15.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get update -q >/dev/null 2>&1
apt-get install -q -y --no-install-recommends nginx-light=1.22.1-9+deb12u11 >/dev/null 2>&1 ||
  apt-get install -q -y --no-install-recommends nginx=1.22.1-9+deb12u11 >/dev/null 2>&1

cat >probe.mjs <<'JS'
import { execSync, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const STREAMS = 300;
const backend = http
  .createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/javascript', 'cache-control': 'no-store, no-transform' });
    response.write('one\n');
    const timer = setInterval(() => response.write('more\n'), 1000);
    response.on('close', () => clearInterval(timer));
  })
  .listen(0, '127.0.0.1');
await delay(100);
const cost = {};
for (const gzip of ['off', 'on']) {
  const probe = http.createServer().listen(0, '127.0.0.1');
  await delay(100);
  const { port } = probe.address();
  probe.close();
  const folder = process.cwd();
  writeFileSync(
    'nginx.conf',
    `user root; daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/log;
events { worker_connections 2048; }
http {
  access_log off; gzip ${gzip}; gzip_proxied any; gzip_types application/javascript;
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://127.0.0.1:${backend.address().port}; proxy_http_version 1.1; proxy_buffering off; }
  }
}`,
  );
  const nginx = spawn('/usr/sbin/nginx', ['-c', `${folder}/nginx.conf`], { stdio: 'ignore' });
  process.on('exit', () => nginx.kill('SIGKILL'));
  await delay(1000);
  const memory = () => Number(execSync(`ps -o rss= --ppid ${nginx.pid}`).toString().trim().split('\n').pop());
  const before = memory();
  const agent = new http.Agent({ maxSockets: STREAMS });
  let encoding;
  const requests = Array.from({ length: STREAMS }, () =>
    http
      .get({ port, agent, headers: { 'accept-encoding': 'gzip' } }, (response) => {
        encoding = response.headers['content-encoding'] ?? 'none';
        response.resume();
      })
      .on('error', () => {}),
  );
  await delay(5000);
  cost[gzip] = (memory() - before) / STREAMS;
  console.error(`gzip ${gzip}: ${Math.round(cost[gzip])} KiB for each stream`);
  console.log(`gzip ${gzip}: encoding ${encoding}`);
  requests.forEach((request) => request.destroy());
  nginx.kill('SIGTERM');
  await delay(500);
}
console.log(`at least five times the memory: ${cost.on > 5 * cost.off}`);
process.exit();
JS
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
gzip off: encoding none
gzip on: encoding gzip
at least five times the memory: true
TEXT
