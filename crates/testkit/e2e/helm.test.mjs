// The chart in deploy/helm renders the objects of deploy/kubernetes, so that neither says what the other does not. Needs helm and
// kubectl, which scripts/kubernetes-tools finds or gets; where they are not to be had these tests are skipped.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { after, test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';

const ROOT = new URL('../../../', import.meta.url);
const read = (path) => readFileSync(new URL(path, ROOT), 'utf8');
const CHART = new URL('deploy/helm/fanfare', ROOT).pathname;
const found = spawnSync(new URL('scripts/kubernetes-tools', ROOT).pathname, { encoding: 'utf8' });
const tools = found.stdout.trim();
const options = { skip: found.status === 0 ? false : found.stderr };

const temp = mkdtempSync(`${tmpdir()}/fanfare-helm-`);
after(() => rmSync(temp, { recursive: true }));

/** What a release with that name would apply, with `values` instead of the defaults. */
const render = (values = {}, release = 'fanfare') => {
  writeFileSync(`${temp}/values.yaml`, JSON.stringify(values));
  const arguments_ = ['template', release, CHART, '--values', `${temp}/values.yaml`];
  const { status, stdout, stderr } = spawnSync(`${tools}/helm`, arguments_, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return documents(stdout);
};
const documents = (text) => parseAllDocuments(text).map((document) => document.toJS()).filter((object) => object);

/** The objects of deploy/kubernetes, with another line in place of one in its kustomization. */
const kustomized = (from, to) => {
  cpSync(new URL('deploy/kubernetes', ROOT), `${temp}/kubernetes`, { recursive: true });
  const text = read('deploy/kubernetes/kustomization.yaml');
  assert.ok(text.includes(from));
  writeFileSync(`${temp}/kubernetes/kustomization.yaml`, text.replace(from, to));
  return documents(execFileSync(`${tools}/kubectl`, ['kustomize', `${temp}/kubernetes`], { encoding: 'utf8' }));
};

/** Without the labels that every chart adds, and with lists of named things in the order of the names. */
const plain = (value) => {
  if (Array.isArray(value)) {
    const items = value.map(plain);
    return items.every((item) => typeof item?.name === 'string') ? items.sort((a, b) => (a.name < b.name ? -1 : 1)) : items;
  }
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([key]) => key !== 'app.kubernetes.io/instance');
  return Object.fromEntries(entries.map(([key, inner]) => [key, plain(inner)]));
};
const byName = (objects) =>
  Object.fromEntries(
    objects.map(({ metadata: { labels, ...metadata }, ...object }) => [`${object.kind} ${metadata.name}`, plain({ metadata, ...object })]),
  );
const of = (objects, kind, name = 'fanfare') => objects.find((object) => object.kind === kind && object.metadata.name === name);
const environment = (objects) =>
  Object.fromEntries(of(objects, 'Deployment').spec.template.spec.containers[0].env.map(({ name, ...rest }) => [name, rest.value ?? rest.valueFrom.secretKeyRef]));

test('the chart as it is renders deploy/kubernetes without its Ingresses, and with one switch all of it', options, () => {
  const objects = byName(kustomized('- ingress.yaml', '- ingress.yaml'));
  assert.equal(Object.keys(objects).length, 5);
  assert.deepEqual(byName(render({ ingress: { enabled: true } })), objects);
  const withoutIngress = Object.entries(objects).filter(([name]) => !name.startsWith('Ingress '));
  assert.deepEqual(byName(render()), Object.fromEntries(withoutIngress));
});

test('one node is what deploy/kubernetes makes of it', options, () => {
  const objects = byName(kustomized('#components: [one-node]', 'components: [one-node]'));
  assert.deepEqual(byName(render({ replicas: 1, cluster: { enabled: false }, ingress: { enabled: true } })), objects);
});

test('two releases in one namespace have nothing in common', options, () => {
  const releases = ['eu', 'us'].map((release) => render({ ingress: { enabled: true }, ops: { enabled: true } }, release));
  const names = new Set(releases.flat().map(({ kind, metadata }) => `${kind} ${metadata.name}`));
  assert.equal(names.size, releases.flat().length);
  const [eu, us] = releases.map((objects) => objects.filter(({ kind }) => kind === 'Service').map(({ spec }) => spec.selector));
  const pods = of(releases[0], 'Deployment', 'eu-fanfare').spec.template.metadata.labels;
  const chosen = (selector) => Object.entries(selector).every(([name, value]) => pods[name] === value);
  assert.deepEqual([eu.map(chosen), us.map(chosen)], [[true, true], [false, false]]);
});

test('a pod gets the time that its drain takes', options, () => {
  const times = (settings) => {
    const { minReadySeconds, template } = of(render({ settings }), 'Deployment').spec;
    return [minReadySeconds, template.spec.terminationGracePeriodSeconds];
  };
  const [ready, grace] = times({});
  for (const period of [60, '60', '60s', '1m']) assert.deepEqual(times({ drain: { period } }), [ready + 40, grace + 40], period);
  assert.throws(() => times({ drain: { period: '1h' } }), /settings\.drain\.period is "1h"/);
  // The default of the chart is that of the program.
  const [, period] = /Self \{ period: (\d+) \}/.exec(read('crates/server/src/config/drain.rs')) ?? [];
  assert.deepEqual(times({ drain: { period: Number(period) } }), [ready, grace]);
});

test('settings become the variables of their names', options, () => {
  const settings = { path_prefix: '/realtime', tls: { acme: { domains: ['a.example', 'b.example'] } }, connections: { max: 2000000 }, http: { trusted_proxies: null } };
  const variables = environment(render({ settings }));
  assert.equal(variables.FANFARE_PATH_PREFIX, '/realtime');
  assert.equal(variables.FANFARE_TLS_ACME_DOMAINS, 'a.example,b.example');
  assert.equal(variables.FANFARE_CONNECTIONS_MAX, '2000000');
  assert.ok(!('FANFARE_HTTP_TRUSTED_PROXIES' in variables));
  const paths = render({ settings, ingress: { enabled: true } })
    .filter(({ kind }) => kind === 'Ingress')
    .flatMap(({ spec }) => spec.rules[0].http.paths.map(({ path }) => path));
  assert.deepEqual(paths.sort(), ['/realtime/app', '/realtime/apps', '/realtime/pusher/app', '/realtime/socket.io', '/realtime/sse', '/realtime/users', '/realtime/ws', '/sdk']);
});

test('the Ingresses lead to the path below which everything is served', options, () => {
  const paths = (settings) =>
    render({ settings, ingress: { enabled: true } })
      .filter(({ kind }) => kind === 'Ingress')
      .flatMap(({ spec }) => spec.rules[0].http.paths.map(({ path }) => path));
  const below = (path) => paths({}).map((public_) => path + public_);
  assert.deepEqual(paths({ http: { base_path: '/realtime' } }), below('/realtime'));
  assert.deepEqual(paths({ http: null, drain: null }), paths({}));
});

test('every variable of the chart is one of the program', options, () => {
  const known = new Set([...read('docs/configuration.md').matchAll(/^(?:### |\| )`([a-z_.]+)`/gm)].map(([, name]) => `FANFARE_${name.toUpperCase().replaceAll('.', '_')}`));
  const everything = { tls: { secretName: 'x' }, ops: { enabled: true }, store: { secret: { name: 'x' } }, masterKey: { secret: { name: 'x' } }, ownerPassword: { secret: { name: 'x' } } };
  const names = Object.keys(environment(render(everything)));
  assert.ok(names.length >= 9, names.join());
  assert.deepEqual(names.filter((name) => !known.has(name)), []);
});

test('each secret may be in a Secret of its own', options, () => {
  const secret = (name, key) => ({ secret: { name, key } });
  const values = { existingSecret: '', store: secret('pg', 'uri'), cluster: secret('redis', 'url'), masterKey: secret('keys', '') };
  const objects = render(values);
  assert.equal(of(objects, 'Deployment').spec.template.spec.containers[0].envFrom, undefined);
  const variables = environment(objects);
  assert.deepEqual(variables.FANFARE_STORE_URL, { name: 'pg', key: 'uri' });
  assert.deepEqual(variables.FANFARE_CLUSTER_URL, { name: 'redis', key: 'url' });
  assert.deepEqual(variables.FANFARE_MASTER_KEY, { name: 'keys', key: 'FANFARE_MASTER_KEY' });
  assert.throws(() => render({ ...values, store: secret('', '') }), /existingSecret and store\.secret\.name are empty/);
});

test('TLS in the pods comes from a Secret, at a port of its own', options, () => {
  const objects = render({ tls: { secretName: 'certificate' } });
  const { containers: [container], volumes } = of(objects, 'Deployment').spec.template.spec;
  const { FANFARE_TLS_CERTIFICATE, FANFARE_TLS_KEY } = environment(objects);
  const { mountPath } = container.volumeMounts.find(({ name }) => name === 'tls');
  assert.deepEqual([FANFARE_TLS_CERTIFICATE, FANFARE_TLS_KEY], [`${mountPath}/tls.crt`, `${mountPath}/tls.key`]);
  assert.equal(volumes.find(({ name }) => name === 'tls').secret.secretName, 'certificate');
  const port = container.ports.find(({ name }) => name === 'https').containerPort;
  assert.match(read('docs/tls.md'), new RegExp(`TLS is spoken at port ${port} `));
  assert.ok(of(objects, 'Service').spec.ports.some(({ targetPort }) => targetPort === 'https'));
});

test('TLS with a certificate by ACME has the same port, and clients that reach it directly keep their addresses', options, () => {
  const https = (values) => {
    const objects = render(values);
    const { containers: [container] } = of(objects, 'Deployment').spec.template.spec;
    const ports = [container.ports, of(objects, 'Service').spec.ports];
    return ports.map((list) => list.filter(({ name }) => name === 'https').map(({ containerPort, targetPort }) => containerPort ?? targetPort));
  };
  const port = https({ tls: { secretName: 'certificate' } });
  assert.equal(port.flat().length, 2);
  assert.deepEqual(https({ settings: { tls: { acme: { domains: ['realtime.example.com'] } } } }), port);
  assert.deepEqual(https({ settings: { tls: { min_version: '1.3' } } }), [[], []]);
  assert.deepEqual(https({ settings: { tls: { acme: null } } }), [[], []]);
  const service = { type: 'LoadBalancer', externalTrafficPolicy: 'Local' };
  assert.equal(of(render({ service }), 'Service').spec.externalTrafficPolicy, 'Local');
  assert.throws(() => render({ service: { externalTrafficPolicy: 'Local' } }), /service\.type is ClusterIP/);
});

test('the alerts and the dashboard are those of deploy/monitoring, and the scrape has the name that they know', options, () => {
  const monitoring = { rules: { enabled: true }, dashboard: { enabled: true }, serviceMonitor: { enabled: true } };
  const objects = render({ monitoring, ops: { enabled: true } }, 'eu');
  const name = 'eu-fanfare';
  assert.deepEqual(of(objects, 'PrometheusRule', name).spec, parse(read('deploy/monitoring/fanfare.rules.yml')));
  const board = of(objects, 'ConfigMap', `${name}-dashboard`).data['fanfare.json'];
  assert.deepEqual(JSON.parse(board), JSON.parse(read('deploy/monitoring/fanfare.dashboard.json')));
  const [endpoint] = of(objects, 'ServiceMonitor', name).spec.endpoints;
  assert.equal(endpoint.port, 'ops');
  const jobs = new Set([...read('deploy/monitoring/fanfare.rules.yml').matchAll(/job="(\w+)"/g)].map(([, job]) => job));
  assert.deepEqual([endpoint.relabelings[0].targetLabel, new Set([endpoint.relabelings[0].replacement])], ['job', jobs]);
  assert.throws(() => render({ monitoring }), /tokenSecret\.name is empty/);
  const tokenSecret = { name: 'scrape' };
  const [asked] = of(render({ monitoring: { serviceMonitor: { enabled: true, tokenSecret } } }), 'ServiceMonitor').spec.endpoints;
  assert.deepEqual([asked.port, asked.authorization.credentials], ['http', { name: 'scrape', key: 'token' }]);
});

test('values that cannot be are refused, with their names', options, () => {
  assert.throws(() => render({ replica: 2 }), /replica/);
  assert.throws(() => render({ replicas: 0.5 }), /replicas/);
  assert.throws(() => render({ service: { type: 'Cluster' } }), /service\/type/);
  assert.throws(() => render({ cluster: { enabled: false } }), /replicas is 3 and cluster\.enabled is false/);
  assert.throws(() => render({ image: { digest: 'latest' } }), /image\/digest/);
});

test('the README names every value, and no other', () => {
  const names = (value, path) =>
    value !== null && typeof value === 'object' && !Array.isArray(value) && Object.keys(value).length > 0 && !/nnotations$|abels$/.test(path)
      ? Object.entries(value).flatMap(([key, inner]) => names(inner, path ? `${path}.${key}` : key))
      : [path];
  const all = names(parse(read('deploy/helm/fanfare/values.yaml')), '');
  const documented = [...read('deploy/helm/fanfare/README.md').matchAll(/^\| (`[^|]+) \|/gm)]
    .flatMap(([, cell]) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  // A name with an asterisk stands for all below it.
  const covered = (name) => documented.some((entry) => entry === name || (entry.endsWith('.*') && name.startsWith(entry.slice(0, -1))));
  assert.deepEqual(all.filter((name) => !covered(name)), []);
  for (const entry of documented) {
    assert.ok(all.some((name) => name === entry || (entry.endsWith('.*') && name.startsWith(entry.slice(0, -1)))), `there is no value ${entry}`);
  }
});

test('the chart and the objects are of the version of the program', () => {
  const [, version] = /^version = "(.*)"$/m.exec(read('Cargo.toml'));
  const chart = parse(read('deploy/helm/fanfare/Chart.yaml'));
  assert.deepEqual([chart.version, chart.appVersion], [version, version]);
  assert.equal(parse(read('deploy/kubernetes/kustomization.yaml')).images[0].newTag, version);
});
