#!/usr/bin/env bash
# Varnish: `send_timeout` 0 ends every answer at once, where 0 switches other time-outs off; and its default, 600 s, is a time in all.
#
# Expected: 0 means no time-out, which is what streams and long downloads want, or is refused when Varnish starts.
# Seen with Varnish 7.1.1 (Debian 12): it starts, its requests to the backend succeed, and clients get an empty reply.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get update -q >/dev/null 2>&1
apt-get install -q -y --no-install-recommends varnish=7.1.1-2+deb12u1 >/dev/null 2>&1

cat >probe.mjs <<'JS'
import { spawn } from 'node:child_process';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const backend = http.createServer((request, response) => response.end('hello')).listen(0, '127.0.0.1');
const probe = http.createServer().listen(0, '127.0.0.1');
await delay(100);
const { port } = probe.address();
probe.close();
for (const timeout of [600, 0]) {
  const flags = ['-F', '-a', `127.0.0.1:${port}`, '-b', `127.0.0.1:${backend.address().port}`, '-p', `send_timeout=${timeout}`];
  const varnish = spawn('varnishd', [...flags, '-n', `${process.cwd()}/work-${timeout}`, '-j', 'none'], { stdio: 'ignore' });
  let answer;
  for (let attempt = 0; attempt < 30; attempt += 1) {
    answer = await fetch(`http://127.0.0.1:${port}/`).then((response) => response.text(), ({ cause }) => cause.code);
    if (answer !== 'ECONNREFUSED') break;
    await delay(500);
  }
  console.log(`send_timeout ${timeout}: ${answer === 'hello' ? 'answered' : 'connection closed'}`);
  varnish.kill('SIGTERM');
  await new Promise((resolve) => varnish.on('exit', resolve));
}
process.exit();
JS
varnishd -V 2>&1 | head -n 1
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
send_timeout 600: answered
send_timeout 0: connection closed
TEXT
