// Proxies with their configuration from deploy/; only ports, paths and the operators' network are others.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './harness.mjs';

// The certificate is made below; nobody has signed it, and it is not what is tested.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
// Distributions keep daemons where not everybody's PATH leads.
process.env.PATH += ':/usr/sbin:/usr/local/sbin';

const DEPLOY = new URL('../../../deploy/', import.meta.url);
// All of these are this machine. Proxies speak to the server from 127.0.0.1.
const OPERATORS = '127.0.0.4/30';

// What a configuration says, and what it says here. Each must be there, so that the tests are about the file as it is.
export const PROXIES = {
  nginx: {
    config: 'nginx.conf',
    command: ({ file, folder }) => ['nginx', '-p', folder, '-c', file, '-g', 'daemon off;'],
    changes: ({ http, https, folder }) => [
      // Root's workers would be somebody who cannot enter the folder.
      ['user www-data;', process.getuid() === 0 ? 'user root;' : ''],
      ['/run/nginx.pid', `${folder}/nginx.pid`],
      ['http {', `http { ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}`],
      ['/var/log/nginx/', `${folder}/`],
      ['/etc/ssl/fanfare/', `${folder}/`],
      ['listen 80;', `listen 127.0.0.1:${http};`],
      ['listen 443 ', `listen 127.0.0.1:${https} `],
      // Not everybody may have as many.
      ['worker_rlimit_nofile 131072;', ''],
    ],
    several: ['#: server ', 'server '],
  },
  caddy: {
    config: 'Caddyfile',
    command: ({ file }) => ['caddy', 'run', '--adapter', 'caddyfile', '--config', file],
    changes: ({ http, https, folder }) => [
      ['(fanfare) {', `{\n admin off\n http_port ${http}\n https_port ${https}\n skip_install_trust\n}\n(fanfare) {`],
      ['{$DOMAIN:realtime.example.com} {', `https://localhost:${https}, https://127.0.0.1:${https} {`],
      ['#: tls /etc/ssl/fanfare/fullchain.pem /etc/ssl/fanfare/privkey.pem', `tls ${folder}/fullchain.pem ${folder}/privkey.pem`],
    ],
    asksReadyz: true,
    several: ['{$UPSTREAM:127.0.0.1:6001}', '127.0.0.1:6001 127.0.0.1:6002 127.0.0.1:6003'],
  },
  haproxy: {
    config: 'haproxy.cfg',
    command: ({ file }) => ['haproxy', '-db', '-f', file],
    changes: ({ http, https, folder }) => [
      ['maxconn 50000', 'maxconn 200'],
      ['bind :443 ssl crt /etc/haproxy/fanfare.pem', `bind 127.0.0.1:${https} ssl crt ${folder}/both.pem`],
      ['bind :80\n', `bind 127.0.0.1:${http}\n`],
    ],
    asksReadyz: true,
    several: ['#: server ', 'server '],
  },
};

/** Why tests with a proxy are skipped: it is not installed. scripts/check-deploy installs all of them. */
export function missing(name) {
  return spawnSync(name, ['-v']).error && `${name} is not installed`;
}

/** Starts a proxy in front of servers, with its own folder, ports and certificate. */
export async function startProxy({ config, command, changes, several }, servers) {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-proxy-'));
  const [http, https] = [await freePort(), await freePort()];
  await makeCertificate(folder);
  let text = await readFile(new URL(config, DEPLOY), 'utf8');
  const addresses = servers.map(({ port }, index) => [`127.0.0.1:${6001 + index}`, `127.0.0.1:${port}`]);
  const common = [...(servers.length > 1 ? [several] : []), ...addresses, ['127.0.0.0/8', OPERATORS]];
  for (const [from, to] of [...common, ...changes({ http, https, folder })]) {
    assert.ok(text.includes(from), `${config} has no ${from}`);
    text = text.replaceAll(from, () => to);
  }
  const file = join(folder, config);
  await writeFile(file, text);

  const [program, ...args] = command({ file, folder });
  const env = { PATH: process.env.PATH, HOME: folder };
  const child = spawn(program, args, { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log += chunk));
  const ended = once(child, 'close');
  const stop = async () => {
    // Ended at once: orderly, each would wait for the connections it has.
    child.kill('SIGTERM');
    const tooLong = setTimeout(kill, 5_000);
    await ended;
    clearTimeout(tooLong);
    process.off('exit', kill);
    await rm(folder, { recursive: true, force: true });
  };
  for (let attempt = 0; ; attempt += 1) {
    try {
      if ((await fetch(`https://127.0.0.1:${https}/readyz`)).ok) return { http, https, stop };
    } catch {}
    if (attempt === 100 || child.exitCode !== null) {
      await stop();
      throw new Error(`${program} does not serve:\n${log}`);
    }
    await delay(50);
  }
}

export async function makeCertificate(folder) {
  const [key, chain] = [join(folder, 'privkey.pem'), join(folder, 'fullchain.pem')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', chain], { stdio: 'ignore' });
  await writeFile(join(folder, 'both.pem'), (await readFile(chain, 'utf8')) + (await readFile(key, 'utf8')));
}
