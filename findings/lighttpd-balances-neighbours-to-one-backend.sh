#!/usr/bin/env bash
# lighttpd: `proxy.balance = "sticky"` sends all clients of one network to the same backend, and "hash" similar URLs.
#
# Expected: addresses (and URLs) are spread over the backends, and each stays on one.
# Seen with lighttpd 1.4.69 (Debian 12): 60 neighbouring addresses and 60 URLs, ten backends, and at most two get all of them.
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

const listen = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};
const ports = [];
for (let number = 0; number < 10; number += 1) {
  ports.push(await listen(http.createServer((request, response) => response.end(String(number)))));
}
const probe = http.createServer();
const port = await listen(probe);
probe.close();
for (const balance of ['round-robin', 'sticky', 'hash']) {
  writeFileSync(
    'lighttpd.conf',
    `server.modules = ( "mod_proxy" )
server.document-root = "/var/empty"
server.bind = "127.0.0.1"
server.port = ${port}
proxy.balance = "${balance}"
proxy.server = ( "" => ( ${ports.map((port) => `( "host" => "127.0.0.1", "port" => ${port} )`).join(', ')} ) )
`,
  );
  const lighttpd = spawn('/usr/sbin/lighttpd', ['-D', '-f', 'lighttpd.conf'], { stdio: 'ignore' });
  await delay(1000);
  const reached = new Set();
  for (let index = 0; index < 60; index += 1) {
    const asked = http.get({ host: '127.0.0.1', port, path: `/${index * 7919}`, localAddress: `127.0.0.${10 + index}`, agent: false });
    const [response] = await once(asked, 'response');
    for await (const chunk of response) reached.add(String(chunk));
  }
  console.error(`${balance}: ${reached.size} of 10 backends`);
  console.log(`${balance}: ${reached.size > 2 ? 'more than two' : 'at most two'} of 10 backends`);
  lighttpd.kill('SIGTERM');
  await once(lighttpd, 'exit');
}
process.exit();
JS
/usr/sbin/lighttpd -v
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
round-robin: more than two of 10 backends
sticky: at most two of 10 backends
hash: at most two of 10 backends
TEXT
