// What deploy/ and docker-compose.yml say of Fanfare is true: its settings, ports, paths and times. scripts/check-deploy asks the
// tools that read the files whether they can.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { parse, parseAllDocuments } from 'yaml';
import { startServer } from './harness.mjs';

const PROXIES = ['nginx.conf', 'Caddyfile', 'haproxy.cfg', 'apache.conf', 'lighttpd.conf', 'varnish.vcl'];
const ROOT = new URL('../../../', import.meta.url);
const read = (path) => readFileSync(new URL(path, ROOT), 'utf8');
const deployed = readdirSync(new URL('deploy/', ROOT), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name !== 'secret.yaml')
  .map((entry) => `${(entry.parentPath ?? entry.path).replace(/\/$/, '')}/${entry.name}`.replace(/^.*\/deploy\//, 'deploy/'));
const texts = [...deployed, 'docker-compose.yml', 'docs/deployment.md', 'docs/clustering.md'].map((path) => [path, read(path)]);

/** The text of a module of the program, with the files below it. */
const source = (name) => {
  const files = readdirSync(new URL(`crates/server/src/${name}/`, ROOT)).map((file) => `${name}/${file}`);
  return [`${name}.rs`, ...files].map((file) => read(`crates/server/src/${file}`)).join('\n');
};
const config = source('config');
/** The settings of the server: a test of the program compares this page with its structs. */
const [page] = read('docs/configuration.md').split('## Settings of an app');
const settings = [...page.matchAll(/^(?:### |\| )`([a-z_.]+)`/gm)].map(([, name]) => name);
const variables = new Set(['FANFARE_CONFIG', ...settings.map((name) => `FANFARE_${name.toUpperCase().replaceAll('.', '_')}`)]);
/** A default, as the program has it. */
const number = (pattern) => Number(config.match(pattern)[1]);
const DRAIN = number(/Self \{ period: (\d+) \}/);
const SILENCE = number(/activity_timeout: (\d+)/) + number(/pong_timeout: (\d+)/);
const IDLE = number(/header_timeout: (\d+)/);
const PORT = number(/DEFAULT_PORT: u16 = (\d+)/);
const graces = [...source('startup').matchAll(/_GRACE: Duration = Duration::from_secs\((\d+)\)/g)];
/** The longest that an orderly end takes. */
const STOP = graces.reduce((sum, [, seconds]) => sum + Number(seconds), DRAIN);

const compose = parse(read('docker-compose.yml'), { merge: true });
const node = compose.services.node1;
const nodes = Object.keys(compose.services).filter((name) => compose.services[name].image === node.image);
const MANIFESTS = ['deployment', 'service', 'ingress', 'poddisruptionbudget', 'secret.example', 'kustomization', 'one-node/kustomization'];
const manifests = MANIFESTS.map((name) => parseAllDocuments(read(`deploy/kubernetes/${name}.yaml`)));
const [deployment, service, , budget, secret, kustomization, oneNode] = manifests.map(([first]) => first.toJS());
const ingresses = manifests[2].map((document) => document.toJS());
const pod = deployment.spec.template.spec;
const container = pod.containers[0];

const server = await startServer({ app: false });
after(() => server.stop());

test('every setting that is named is one', () => {
  assert.ok(settings.length > 20 && graces.length === 2 && STOP > DRAIN);
  const groups = new Set(settings.filter((name) => name.includes('.')).map((name) => name.split('.')[0]));
  const inText = new RegExp(`(?<![\\w./-])(${[...groups].join('|')})\\.(?!md\\b)[a-z_]+\\b(?![./])`, 'g');
  for (const [path, text] of texts) {
    for (const [name] of text.matchAll(/\bFANFARE_[A-Z_]+\b/g)) {
      // Kubernetes would set this one, which a comment explains.
      assert.ok(variables.has(name) || name === 'FANFARE_PORT', `${path}: there is no setting ${name}`);
    }
    // As text has them: `drain.period`, http.trusted_proxies. Links to pages are none. The values of the chart have names of their own,
    // and those of settings are below `settings`.
    const named = path.startsWith('deploy/helm/') ? [...text.matchAll(/\bsettings\.([a-z_]+(?:\.[a-z_]+)+)/g)].map(([, name]) => [name]) : text.matchAll(inText);
    for (const [name] of named) {
      assert.ok(settings.includes(name), `${path}: there is no setting ${name}`);
    }
  }
});

test('whoever stops it waits for as long as it takes', () => {
  const unit = read('deploy/systemd/fanfare.service');
  assert.ok(Number(unit.match(/^TimeoutStopSec=(\d+)$/m)[1]) > STOP);
  assert.ok(parseInt(node.stop_grace_period) > STOP);
  const preStop = Number(container.lifecycle.preStop.exec.command[1]);
  assert.ok(pod.terminationGracePeriodSeconds > STOP + preStop);
  // A rollout ends one pod after the other.
  assert.ok(deployment.spec.minReadySeconds > STOP + preStop);
  assert.deepEqual(deployment.spec.strategy, { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } });
  for (const [path, text] of texts) {
    for (const [all, seconds] of text.matchAll(/drain\.period`? \((\d+) s\)/g)) assert.equal(Number(seconds), DRAIN, `${path}: ${all}`);
    for (const [all, seconds] of text.matchAll(/at most (\d+) s for what is under way/g)) {
      assert.equal(Number(seconds), STOP - DRAIN, `${path}: ${all}`);
    }
  }
});

test('proxies wait longer than connections are silent, and close idle ones before the server does', () => {
  const nginx = read('deploy/nginx.conf');
  const haproxy = read('deploy/haproxy.cfg');
  const [apache, lighttpd, varnish] = ['apache.conf', 'lighttpd.conf', 'varnish.vcl'].map((file) => read(`deploy/${file}`));
  const annotated = (name) => ingresses.map(({ metadata }) => metadata.annotations[`nginx.ingress.kubernetes.io/${name}`]);
  const waits = [
    nginx.match(/proxy_read_timeout (\d+)s/)[1],
    nginx.match(/proxy_send_timeout (\d+)s/)[1],
    haproxy.match(/timeout tunnel (\d+)s/)[1],
    ...[...apache.matchAll(/ timeout=(\d+)/g)].map(([, seconds]) => seconds),
    ...[...lighttpd.matchAll(/server\.max-(?:read|write)-idle += (\d+)/g)].map(([, seconds]) => seconds),
    ...[...varnish.matchAll(/(?:pipe_timeout=|between_bytes_timeout = |first_byte_timeout = )(\d+)/g)].map(([, seconds]) => seconds),
    ...annotated('proxy-read-timeout'),
    ...annotated('proxy-send-timeout'),
  ];
  assert.equal(waits.length, 7 + 6 + 2 + 13);
  for (const wait of waits) assert.ok(Number(wait) > SILENCE, wait);
  // nginx' own default is 60 s.
  for (const [upstream] of nginx.matchAll(/upstream \w+ \{.*?\n  \}/gs)) assert.doesNotMatch(upstream, /keepalive_timeout/);
  const rests = [
    ...read('deploy/Caddyfile').matchAll(/keepalive (\d+)s/g),
    ...haproxy.matchAll(/pool-purge-delay (\d+)s/g),
    ...apache.matchAll(/ ttl=(\d+)/g),
  ];
  assert.equal(rests.length, 3 + 6);
  for (const [, seconds] of rests) assert.ok(Number(seconds) < IDLE);
});

test('a node that drains gets no new client for longer than a second, or only its turn where nobody asks it', () => {
  const files = ['Caddyfile', 'haproxy.cfg', 'nginx.conf', 'apache.conf', 'lighttpd.conf', 'varnish.vcl'];
  const [caddy, haproxy, nginx, apache, lighttpd, varnish] = files.map((file) => read(`deploy/${file}`));
  const intervals = (text, pattern) => [...text.matchAll(pattern)].map(([, interval]) => interval);
  assert.deepEqual(intervals(caddy, /health_interval (\S+)/g), ['1s']);
  assert.deepEqual(intervals(haproxy, / inter (\S+)/g), ['1s', '1s']);
  assert.deepEqual(intervals(varnish, / \.interval = (\S+);/g), ['1s', '1s']);
  for (const [interval] of apache.matchAll(/hcinterval=\d+ hcfails=\d+/g)) assert.equal(interval, 'hcinterval=1 hcfails=1');
  // Believed at the first answer, and not after `fall` of them.
  assert.match(haproxy, /uri \/readyz .*\n +http-check expect status 200 error-status L7OKC$/m);
  // A node that drains has the fewest connections.
  for (const text of [nginx, lighttpd]) assert.doesNotMatch(text, /^[^#]*least/m);
  assert.equal(container.readinessProbe.periodSeconds * container.readinessProbe.failureThreshold, 2);
});

test('browsers get HTTP/2 everywhere, and HAProxy and Caddy wait for a node that restarts', () => {
  const listens = [...read('deploy/nginx.conf').matchAll(/^ *(?:#: )?listen .*443 .*;$/gm)];
  const binds = [...read('deploy/haproxy.cfg').matchAll(/^ *(?:#: )?bind .*443 .*$/gm)];
  assert.deepEqual([listens.length, binds.length], [2, 2]);
  for (const [line] of listens) assert.match(line, / http2 /);
  for (const [line] of binds) assert.match(line, / alpn h2,http\/1\.1 /);
  assert.match(read('deploy/haproxy.cfg'), /^ +retries 5$/m);
  assert.match(read('deploy/Caddyfile'), /^\t+lb_try_duration 10s$/m);
});

test('every place speaks to the port that is served, and probes what is there', async () => {
  const unit = read('deploy/systemd/fanfare.socket');
  assert.match(unit, new RegExp(`^ListenStream=127\\.0\\.0\\.1:${PORT}$`, 'm'));
  assert.match(read('deploy/systemd/fanfare.env'), new RegExp(`^FANFARE_LISTEN=127\\.0\\.0\\.1:${PORT}$`, 'm'));
  const dockerfile = read('deploy/Dockerfile');
  assert.match(dockerfile, new RegExp(`FANFARE_LISTEN=0\\.0\\.0\\.0:${PORT}\\b`));
  assert.match(dockerfile, new RegExp(`^EXPOSE ${PORT}$`, 'm'));
  assert.deepEqual(compose.services.balancer.ports, [`127.0.0.1:${PORT}:${PORT}`]);
  assert.equal(compose.services.balancer.environment.DOMAIN, `http://:${PORT}`);
  for (const file of PROXIES) assert.match(read(`deploy/${file}`), new RegExp(`127\\.0\\.0\\.1(:|", "port" => |"; \\.port = ")${PORT}\\b`), file);
  const port = container.ports[0];
  assert.deepEqual([port.name, port.containerPort], ['http', PORT]);
  assert.deepEqual([service.spec.ports[0].targetPort, service.spec.ports[0].port], ['http', PORT]);

  const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe].map(({ httpGet }) => httpGet);
  assert.deepEqual(probes.map(({ path }) => path), ['/healthz', '/healthz', '/readyz']);
  for (const { path, port: name } of probes) {
    assert.equal(name, 'http');
    assert.equal((await fetch(server.url + path)).status, 200, path);
  }
  assert.deepEqual(node.healthcheck.test, ['CMD', 'fanfare-healthcheck', '/readyz']);
});

test('the check of the image tells a server that answers from one that does not', async () => {
  const check = (port, ...args) =>
    promisify(execFile)(new URL('deploy/healthcheck', ROOT).pathname, args, { env: { FANFARE_LISTEN: `0.0.0.0:${port}` } });
  await check(server.port);
  await check(server.port, '/readyz');
  await assert.rejects(check(server.port, '/nothing'));
  await assert.rejects(check(1));
});

test('the image is built from what is there, for a user who is not root', () => {
  const dockerfile = read('deploy/Dockerfile');
  const ignore = read('.dockerignore').split('\n');
  for (const [, from] of dockerfile.matchAll(/^COPY (?!--from)(?:--\S+ )?(.+) \S+$/gm)) {
    for (const path of from.split(' ')) {
      assert.ok(existsSync(new URL(path, ROOT)), path);
      const isLetIn = ignore.some((line) => line === `!${path}` || path.startsWith(`${line.slice(1)}/`));
      assert.ok(isLetIn, `.dockerignore keeps ${path} from the build`);
    }
  }
  const rust = read('Cargo.toml').match(/rust-version = "(.*)"/)[1];
  assert.equal(dockerfile.match(/^ARG RUST=(.*)$/m)[1], rust);
  assert.match(dockerfile, /^STOPSIGNAL SIGTERM$/m);
  const [user] = dockerfile.match(/^USER (\d+):\1$/m)[0].slice(5).split(':').map(Number);
  assert.ok(user > 0);
  assert.ok(node.tmpfs[0].includes(`uid=${user},gid=${user},`));
  assert.deepEqual([pod.securityContext.runAsUser, pod.securityContext.fsGroup], [user, user]);
});

test('the Debian package is made of what is there, and its unit is the one of deploy/', () => {
  const manifest = read('crates/server/Cargo.toml');
  const made = read('scripts/release');
  const [, table] = /^\[package\.metadata\.deb\]\n(.*?)^\[/ms.exec(manifest);
  const assets = [...table.matchAll(/^ {2}\["\.\.\/\.\.\/(.+?)", "(.+?)", "(\d+)"\],$/gm)].map(([, from, to, mode]) => ({ from, to, mode }));
  assert.ok(assets.length > 10);
  for (const { from } of assets) {
    if (!from.startsWith('target/package/')) assert.ok(existsSync(new URL(from, ROOT)), from);
    else assert.ok(made.includes(`/${from.split('/').pop().replace(/(bash|zsh|fish)$/, () => '$shell')}`), from);
  }
  const installed = ({ from, to }) => (to.endsWith('/') ? `/${to}${from.split('/').pop()}` : `/${to}`);
  const paths = assets.map(installed);
  const unit = read('deploy/systemd/fanfare.service');
  assert.ok(paths.includes(unit.match(/^ExecStart=(\S+) /m)[1].replace('/local', '')));
  const settings = unit.match(/^EnvironmentFile=(.*)$/m)[1];
  assert.equal(assets.find((asset) => installed(asset) === settings).mode, '600');
  assert.ok(read('deploy/debian/fanfare.sysusers').startsWith(`u ${unit.match(/^User=(.*)$/m)[1]} `));
  // The package upgrades by it.
  assert.match(unit, /^ExecReload=\/bin\/kill -USR2 \$MAINPID$/m);
});

test('the image is built from all that the program embeds', () => {
  const copied = [...read('deploy/Dockerfile').matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from]) => from.split(' '));
  let embedded = 0;
  for (const file of readdirSync(new URL('crates', ROOT), { recursive: true }).filter((name) => /^\w+\/src\/.*\.rs$/.test(name))) {
    const source = new URL(`crates/${file}`, ROOT);
    const crate = new URL(`crates/${file.split('/')[0]}/`, ROOT);
    for (const [, path] of readFileSync(source, 'utf8').matchAll(/include_(?:str|bytes|dir)!\(\s*"([^"]+)"/g)) {
      const target = new URL(path.replace('$CARGO_MANIFEST_DIR/', './'), path.startsWith('$') ? crate : source);
      const name = target.pathname.slice(ROOT.pathname.length);
      embedded += 1;
      assert.ok(copied.some((from) => name === from || name.startsWith(`${from}/`)), `${file} embeds ${name}, which the image's build doesn't have`);
    }
  }
  assert.ok(embedded > 5, `only ${embedded} embedded files were found`);
  // Its build script makes the book of the documents, and of the files that they show.
  for (const path of ['docs', 'deploy', 'findings', 'README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'docker-compose.yml']) {
    assert.ok(copied.includes(path), `the image's build doesn't have ${path}`);
  }
});

test('compose holds no secret, and its example names all that it asks for', () => {
  const example = read('deploy/compose.env.example');
  const asked = [...read('docker-compose.yml').matchAll(/\$\{(\w+):([?-])/g)];
  for (const [, name, kind] of asked) {
    assert.match(example, new RegExp(kind === '?' ? `^${name}=$` : `^#${name}=`, 'm'), name);
  }
  for (const [name, { environment = {} }] of Object.entries(compose.services)) {
    for (const [variable, value] of Object.entries(environment)) {
      if (/PASSWORD|KEY|URL/.test(variable)) assert.match(value, /\$\{\w+:\?/, `${name}: ${variable}`);
    }
  }
  assert.ok(read('.gitignore').split('\n').includes('/.env'));
  // What Caddy is told is what its configuration reads.
  const known = new Set([...read('deploy/Caddyfile').matchAll(/\{\$(\w+)[:}]/g)].map(([, name]) => name));
  for (const name of ['balancer', 'caddy']) {
    assert.deepEqual(Object.keys(compose.services[name].environment).sort(), [...known].sort());
  }
});

test('compose runs three nodes that are the same, on what they share, with both proxies in front of all of them', () => {
  assert.equal(nodes.length, 3);
  for (const name of nodes) assert.deepEqual(compose.services[name], node);
  for (const setting of ['FANFARE_STORE_URL', 'FANFARE_CLUSTER_URL', 'FANFARE_MASTER_KEY']) assert.ok(node.environment[setting], setting);
  assert.match(node.environment.FANFARE_CLUSTER_URL, /@redis:6379$/);
  for (const name of ['balancer', 'caddy']) {
    const { environment, depends_on: after } = compose.services[name];
    assert.equal(environment.UPSTREAM, nodes.map((node) => `${node}:${PORT}`).join(' '));
    assert.deepEqual(Object.keys(after), nodes);
  }
});

test('Redis keeps nothing on a disk, and refuses rather than forgets', () => {
  const { redis } = compose.services;
  const lines = read('deploy/redis.conf').split('\n');
  for (const line of ['save ""', 'appendonly no', 'maxmemory-policy noeviction']) assert.ok(lines.includes(line), line);
  assert.ok(redis.volumes.includes(`./deploy/redis.conf:${redis.command[1]}:ro`));
  const documented = read('docs/clustering.md');
  for (const line of lines.filter((line) => /^(save|appendonly|maxmemory|client-output)/.test(line))) {
    assert.ok(documented.includes(line), `docs/clustering.md has another ${line}`);
  }
});

test('every proxy names each node wherever it names nodes, and keeps a session of the fallbacks on one', () => {
  const nginx = [...read('deploy/nginx.conf').matchAll(/upstream \w+ \{.*?\n  \}/gs)];
  const haproxy = [...read('deploy/haproxy.cfg').matchAll(/^backend \w+\n.*?(?=^backend|(?![^]))/gms)];
  for (const [pools, sticky] of [[nginx, 'hash $session'], [haproxy, 'balance hash var(txn.session)']]) {
    const [one, two, ...more] = pools.map(([text]) => text.match(/^ *(?:#: )?server .*/gm));
    assert.equal(one.length, 3);
    assert.deepEqual([two, more], [one, []]);
    assert.equal(pools.filter(([text]) => text.includes(sticky)).length, 1);
  }
  const ports = (file, pattern) => [...read(`deploy/${file}`).matchAll(pattern)].map(([, port]) => Number(port)).sort();
  const twice = [PORT, PORT, PORT + 1, PORT + 1, PORT + 2, PORT + 2];
  assert.deepEqual(ports('apache.conf', /^ *(?:#: )?BalancerMember http:\/\/127\.0\.0\.1:(\d+) /gm), twice);
  assert.deepEqual(ports('lighttpd.conf', /^ *(?:#: )?\( "host" => "127\.0\.0\.1", "port" => (\d+) \)/gm), twice);
  assert.deepEqual(ports('varnish.vcl', /^(?:#: )?backend .* \.port = "(\d+)"/gm), twice);
  const pools = read('deploy/Caddyfile').split('reverse_proxy {$UPSTREAM:').slice(1);
  assert.deepEqual(pools.map((text) => text.match(/health_uri (\S+)/)[1]), ['/readyz', '/healthz']);
  assert.match(pools[1], /lb_policy header X-Session/);
  for (const file of PROXIES) {
    const text = read(`deploy/${file}`).replace(/\(\?<session>|[()?]/g, '');
    assert.ok(text.includes('/app/[^/]+/[A-Za-z0-9]+/[A-Za-z0-9]+/xhr'), file);
  }
});

test('compose starts things in order, on networks and volumes that it has', () => {
  for (const [name, entry] of Object.entries(compose.services)) {
    for (const network of entry.networks) assert.ok(network in compose.networks, `${name}: ${network}`);
    for (const volume of entry.volumes ?? []) {
      const [from] = volume.split(':');
      assert.ok(from in compose.volumes || existsSync(new URL(from, ROOT)), `${name}: ${from}`);
    }
    for (const [other, { condition }] of Object.entries(entry.depends_on ?? {})) {
      assert.equal(condition, 'service_healthy');
      // The image of Fanfare brings its own.
      assert.ok(compose.services[other].healthcheck ?? compose.services[other].build, other);
    }
  }
});

test('the Kubernetes objects fit together and run three pods without rights, apart from each other', () => {
  const labels = deployment.spec.template.metadata.labels;
  const spread = pod.topologySpreadConstraints;
  assert.deepEqual(spread.map(({ topologyKey }) => topologyKey), ['kubernetes.io/hostname', 'topology.kubernetes.io/zone']);
  const selectors = [deployment.spec.selector, budget.spec.selector, ...spread.map(({ labelSelector }) => labelSelector)];
  for (const selector of [...selectors.map(({ matchLabels }) => matchLabels), service.spec.selector]) {
    for (const [name, value] of Object.entries(selector)) assert.equal(labels[name], value);
  }
  assert.deepEqual([deployment.spec.replicas, budget.spec.maxUnavailable], [3, 1]);
  // Nodes that know nothing of each other would each deliver a part.
  const cluster = container.env.find(({ name }) => name === 'FANFARE_CLUSTER_URL').valueFrom.secretKeyRef;
  assert.deepEqual([cluster.name, cluster.optional], [secret.metadata.name, undefined]);
  assert.ok(cluster.key in secret.stringData);
  assert.equal(pod.securityContext.runAsNonRoot, true);
  const rights = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } };
  assert.deepEqual(container.securityContext, rights);
  assert.equal(container.envFrom[0].secretRef.name, secret.metadata.name);
  assert.equal(kustomization.images[0].name, container.image);
  for (const file of kustomization.resources) assert.ok(existsSync(new URL(`deploy/kubernetes/${file}`, ROOT)), file);
  for (const { spec } of ingresses) {
    const [{ http, host }] = spec.rules;
    assert.deepEqual(spec.tls[0].hosts, [host]);
    for (const { backend } of http.paths) {
      assert.equal(backend.service.name, service.metadata.name);
      assert.equal(backend.service.port.name, service.spec.ports[0].name);
    }
  }
  for (const { errors } of manifests.flat()) assert.deepEqual(errors, []);
});

test('one node in Kubernetes is one line away: one pod at any moment, which needs no Redis', () => {
  assert.match(read('deploy/kubernetes/kustomization.yaml'), /^#components: \[one-node\]$/m);
  const texts = oneNode.patches.map(({ patch }) => parse(patch));
  const [operations, variables, gone] = texts;
  const changed = Object.fromEntries(operations.map(({ op, path, value }) => [path, op === 'remove' ? undefined : value]));
  assert.deepEqual(changed, { '/spec/replicas': 1, '/spec/strategy': { type: 'Recreate' }, '/spec/minReadySeconds': undefined });
  const [{ env }] = variables.spec.template.spec.containers;
  assert.deepEqual(env, [{ name: 'FANFARE_CLUSTER_URL', $patch: 'delete' }]);
  assert.deepEqual([gone.kind, gone.metadata.name, gone.$patch], [budget.kind, budget.metadata.name, 'delete']);
});

test('what is public is the same behind every proxy', () => {
  const words = 'app|apps|pusher/app|socket\\.io|sse|users|ws';
  for (const file of PROXIES) assert.ok(read(`deploy/${file}`).includes(`(${words})`), file);
  const paths = ingresses.flatMap(({ spec }) => spec.rules[0].http.paths.map(({ path, pathType }) => [path, pathType]));
  assert.deepEqual(paths.sort(), [...words.replaceAll('\\', '').split('|'), 'sdk'].map((path) => [`/${path}`, 'Prefix']).sort());
});
