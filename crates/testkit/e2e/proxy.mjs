// Proxies with their configuration from deploy/; only ports, paths and the operators' network are others.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
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

/** Whether a daemon that is started by root leaves it, for a user of its package. */
const ROOT = process.getuid() === 0;

// What a configuration says, and what it says here. Each must be there, so that the tests are about the file as it is.
export const PROXIES = {
  nginx: {
    configs: ['nginx.conf'],
    programs: ['nginx'],
    commands: ({ folder }) => [['nginx', '-p', folder, '-c', `${folder}/nginx.conf`, '-g', 'daemon off;']],
    changes: ({ http, https, folder }) => [
      // Root's workers would be somebody who cannot enter the folder.
      ['user www-data;', ROOT ? 'user root;' : ''],
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
    configs: ['Caddyfile'],
    programs: ['caddy'],
    commands: ({ folder }) => [['caddy', 'run', '--adapter', 'caddyfile', '--config', `${folder}/Caddyfile`]],
    changes: ({ http, https, folder }) => [
      ['(fanfare) {', `{\n admin off\n http_port ${http}\n https_port ${https}\n skip_install_trust\n}\n(fanfare) {`],
      ['{$DOMAIN:realtime.example.com} {', `https://localhost:${https}, https://127.0.0.1:${https} {`],
      ['#: tls /etc/ssl/fanfare/fullchain.pem /etc/ssl/fanfare/privkey.pem', `tls ${folder}/fullchain.pem ${folder}/privkey.pem`],
    ],
    asksReadyz: true,
    several: ['{$UPSTREAM:127.0.0.1:6001}', '127.0.0.1:6001 127.0.0.1:6002 127.0.0.1:6003'],
  },
  haproxy: {
    configs: ['haproxy.cfg'],
    programs: ['haproxy'],
    commands: ({ folder }) => [['haproxy', '-db', '-f', `${folder}/haproxy.cfg`]],
    changes: ({ http, https, folder }) => [
      ['maxconn 50000', 'maxconn 200'],
      ['bind :443 ssl crt /etc/haproxy/fanfare.pem', `bind 127.0.0.1:${https} ssl crt ${folder}/both.pem`],
      ['bind :80\n', `bind 127.0.0.1:${http}\n`],
    ],
    asksReadyz: true,
    several: ['#: server ', 'server '],
  },
  apache: {
    configs: ['apache.conf'],
    programs: ['apache2'],
    // A site is part of a server that Debian has configured. As much of that as the site needs.
    prepare: ({ folder, http, https }) => {
      const modules = ['mpm_event', 'authz_core', 'authz_host', 'env', 'headers', 'http2', 'lbmethod_bybusyness', 'lbmethod_byrequests', 'proxy', 'proxy_balancer', 'proxy_hcheck'];
      modules.push('proxy_http', 'rewrite', 'setenvif', 'slotmem_shm', 'socache_shmcb', 'ssl');
      const main = [
        `ServerRoot ${folder}`,
        ...modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`),
        ...[http, https].map((port) => `Listen 127.0.0.1:${port}`),
        ...(ROOT ? ['User www-data', 'Group www-data'] : []),
        `DefaultRuntimeDir ${folder}`,
        `PidFile ${folder}/apache.pid`,
        'ServerName localhost',
        'SSLSessionCache shmcb:ssl-sessions(512000)',
        'ErrorLog "|/bin/cat"',
        `Include ${folder}/apache.conf`,
      ];
      return writeFile(join(folder, 'main.conf'), main.join('\n'));
    },
    commands: ({ folder }) => [['apache2', '-f', `${folder}/main.conf`, '-DFOREGROUND']],
    changes: ({ http, https, folder }) => [
      ['<VirtualHost *:80>', `<VirtualHost *:${http}>`],
      ['<VirtualHost *:443>', `<VirtualHost *:${https}>`],
      ['/etc/ssl/fanfare/', `${folder}/`],
      ['/var/log/apache2/', `${folder}/`],
      // So many threads take a while to start.
      ['ServerLimit          16', 'ServerLimit          2'],
      ['MaxRequestWorkers    8192', 'MaxRequestWorkers    1024'],
    ],
    asksReadyz: true,
    onlyReady: true,
    noticesLate: true,
    fewStreams: ['#: RequestHeader unset X-Forwarded-Proto', 'RequestHeader unset X-Forwarded-Proto'],
    several: ['#: ', ''],
  },
  lighttpd: {
    configs: ['lighttpd.conf'],
    programs: ['lighttpd'],
    commands: ({ folder }) => [['lighttpd', '-D', '-f', `${folder}/lighttpd.conf`]],
    changes: ({ http, https, folder }) => [
      ['server.username      = "www-data"', ''],
      ['server.groupname     = "www-data"', ''],
      ['/run/lighttpd.pid', `${folder}/lighttpd.pid`],
      ['/var/log/lighttpd/', `${folder}/`],
      ['/etc/ssl/fanfare/', `${folder}/`],
      ['server.port = 80', `server.port = ${http}\nserver.bind = "127.0.0.1"`],
      ['":443"', `"127.0.0.1:${https}"`],
      // Not everybody may have as many.
      ['server.max-fds         = 131072', 'server.max-fds         = 1024'],
      ['server.max-connections = 65536', 'server.max-connections = 512'],
    ],
    noticesLate: true,
    tooFewStreams: true,
    sessionsByNetwork: true,
    several: ['#: ', ''],
  },
  varnish: {
    configs: ['varnish.vcl', 'hitch.conf'],
    programs: ['varnishd', 'hitch'],
    commands: ({ folder, http, inner }) => [
      varnishd({ folder, http, inner }),
      ['hitch', '--config', `${folder}/hitch.conf`],
    ],
    changes: ({ https, folder, inner }) => [
      ['frontend = "[*]:443"', `frontend = "[127.0.0.1]:${https}"`],
      ['[127.0.0.1]:6086', `[127.0.0.1]:${inner}`],
      ['/etc/hitch/fanfare.pem', `${folder}/both.pem`],
      ...(ROOT ? [] : [['user = "_hitch"', ''], ['group = "_hitch"', '']]),
    ],
    asksReadyz: true,
    noticesLate: true,
    waitsForProbe: true,
    several: ['#: ', ''],
  },
};

// The other way to TLS in front of Varnish.
PROXIES.stunnel = {
  ...PROXIES.varnish,
  configs: ['varnish.vcl', 'stunnel.conf'],
  programs: ['varnishd', 'stunnel'],
  commands: ({ folder, http, inner }) => [varnishd({ folder, http, inner }), ['stunnel', `${folder}/stunnel.conf`]],
  changes: ({ https, folder, inner }) => [
    ['accept  = :::443', `accept  = 127.0.0.1:${https}`],
    ['connect = 127.0.0.1:6086', `connect = 127.0.0.1:${inner}`],
    ['/etc/ssl/fanfare/', `${folder}/`],
    ...(ROOT ? [] : [['setuid = stunnel4', ''], ['setgid = stunnel4', '']]),
  ],
  // It doesn't offer HTTP/2.
  tooFewStreams: true,
};

/** The command that varnish.vcl names, with folders and ports of the test's own. */
function varnishd({ folder, http, inner }) {
  const text = readFileSync(`${folder}/varnish.vcl`, 'utf8');
  const command = text.match(/^#   ExecStart=\/usr\/sbin\/(varnishd .*) \\\n#     (.*)$/m);
  const args = `${command[1]} ${command[2]}`
    .replace('http=:80,HTTP', `http=127.0.0.1:${http},HTTP`)
    .replace('tls=127.0.0.1:6086,PROXY', `tls=127.0.0.1:${inner},PROXY`)
    .replace('/etc/varnish/default.vcl', `${folder}/varnish.vcl`);
  // Without a jail it needs no user of its own, and may read the folder.
  return [...args.split(' '), '-F', '-j', 'none', '-n', `${folder}/varnish`];
}

/** Why tests with a proxy are skipped: it is not installed. scripts/check-deploy installs all of them. */
export function missing(name) {
  return PROXIES[name].programs.map(missingProgram).find(Boolean);
}

/** Why tests with a program are skipped: it is not installed. */
export function missingProgram(program) {
  return spawnSync(program, ['-V']).error && `${program} is not installed`;
}

/** Starts a proxy in front of servers, with its own folder, ports and certificate. `ready` is where a probe finds them behind it. */
export async function startProxy({ configs, prepare, commands, changes, several, ready = '/readyz' }, servers) {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-proxy-'));
  // Some daemons read there as a user of their own.
  await chmod(folder, 0o755);
  const [http, https, inner] = [await freePort(), await freePort(), await freePort()];
  const places = { http, https, inner, folder };
  await makeCertificate(folder);
  const texts = await Promise.all(configs.map((config) => readFile(new URL(config, DEPLOY), 'utf8')));
  const change = (from, to) => {
    assert.ok(texts.some((text) => text.includes(from)), `${configs} has no ${from}`);
    texts.forEach((text, index) => (texts[index] = text.replaceAll(from, () => to)));
  };
  if (servers.length > 1) change(...several);
  servers.forEach(({ port, upstream }, index) => {
    const documented = String(6001 + index);
    if (upstream) return change(`127.0.0.1:${documented}`, upstream);
    // Address and port are one word, or two.
    const forms = [(port) => `127.0.0.1:${port}`, (port) => `"127.0.0.1", "port" => ${port}`, (port) => `"127.0.0.1"; .port = "${port}"`];
    const form = forms.find((form) => texts[0].includes(form(documented))) ?? forms[0];
    change(form(documented), form(port));
  });
  change(...(texts[0].includes('"127.0.0.0"/8') ? ['"127.0.0.0"/8', '"127.0.0.4"/30'] : ['127.0.0.0/8', OPERATORS]));
  for (const [from, to] of changes(places)) change(from, to);
  await Promise.all(configs.map((config, index) => writeFile(join(folder, config), texts[index])));
  await prepare?.(places);

  const env = { PATH: process.env.PATH, HOME: folder };
  let log = '';
  const children = commands(places).map(([program, ...args]) => {
    // In a group of its own, so that children which their parent leaves behind can be ended as well.
    const child = spawn(program, args, { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log += chunk));
    return { child, ended: once(child, 'close') };
  });
  const kill = () => children.forEach(({ child }) => endGroup(child));
  process.on('exit', kill);
  const stop = async () => {
    // Ended at once: orderly, each would wait for the connections it has.
    for (const { child } of children) child.kill('SIGTERM');
    const tooLong = setTimeout(kill, 2_000);
    await Promise.all(children.map(({ ended }) => ended));
    clearTimeout(tooLong);
    process.off('exit', kill);
    await rm(folder, { recursive: true, force: true });
  };
  for (let attempt = 0; ; attempt += 1) {
    try {
      if ((await fetch(`https://127.0.0.1:${https}${ready}`)).ok) return { http, https, stop, log: () => log };
    } catch {}
    if (attempt === 200 || children.some(({ child }) => child.exitCode !== null)) {
      await stop();
      throw new Error(`${configs} does not serve:\n${log}`);
    }
    await delay(50);
  }
}

function endGroup({ pid }) {
  try {
    if (pid) process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

export async function makeCertificate(folder) {
  const [key, chain] = [join(folder, 'privkey.pem'), join(folder, 'fullchain.pem')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', chain], { stdio: 'ignore' });
  await writeFile(join(folder, 'both.pem'), (await readFile(chain, 'utf8')) + (await readFile(key, 'utf8')));
}
