// What is committed is what the sources make, and it is small.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

const run = promisify(execFile);
const root = new URL('../../', import.meta.url);
const rebuilt = 'dist-rebuilt';
const read = (path) => readFile(new URL(path, root), 'utf8');
const gzip = (text) => gzipSync(text, { level: 9 }).length;

before(() => run('node', ['scripts/build.mjs', rebuilt], { cwd: root }));
after(() => rm(new URL(rebuilt, root), { recursive: true, force: true }));

for (const name of ['fanfare.js', 'fanfare.js.map', 'fanfare-encrypted.js', 'recover.js']) {
  test(`dist/${name} is what the sources make: npm run build makes it anew`, async () => {
    assert.ok((await read(`dist/${name}`)) === (await read(`${rebuilt}/${name}`)), `dist/${name} is out of date`);
  });
}

test('the script has at most 8 KiB compressed', async (t) => {
  const [script, ours] = [await read(`${rebuilt}/fanfare.js`), await bundled(`${rebuilt}/es/index.js`)];
  const theirs = await read('node_modules/pusher-js/dist/web/pusher.min.js');
  const encrypted = await read(`${rebuilt}/fanfare-encrypted.js`);
  const pusher = await bundled(`${rebuilt}/es/pusher.js`, "export { default } from 'ENTRY'");
  for (const [name, text] of Object.entries({
    'dist/fanfare.js': script,
    'dist/fanfare-encrypted.js': encrypted,
    '@fanfare/client, bundled': ours,
    '@fanfare/client/pusher, bundled': pusher,
    'pusher-js 8.6.0': theirs,
  })) {
    t.diagnostic(`${name}: ${gzip(text)} bytes gzip, ${text.length} minified`);
  }
  assert.ok(gzip(script) <= 8 * 1024, `${gzip(script)} bytes`);
  assert.ok(gzip(ours) <= 8 * 1024, `${gzip(ours)} bytes`);
  assert.ok(gzip(encrypted) <= 20 * 1024, `${gzip(encrypted)} bytes`);
});

test('recover() has at most 2 KB, before any compression', async (t) => {
  const text = await bundled(`${rebuilt}/es/recover.js`);
  t.diagnostic(`@fanfare/client/recover: ${text.length} bytes minified, ${gzip(text)} gzip`);
  assert.ok(text.length <= 2048, `${text.length} bytes`);
  const script = await read(`${rebuilt}/recover.js`);
  assert.ok(script.length <= 2048 + 64, `${script.length} bytes`);
});

test('what an application does not import is not in its bundle', async () => {
  const core = await bundled(`${rebuilt}/es/index.js`);
  assert.doesNotMatch(core, /secretbox|createElement|subscriptionCancelled/);
  const error = await bundled(`${rebuilt}/es/index.js`, "export { FanfareError } from 'ENTRY'");
  assert.ok(error.length < 1000, `${error.length} bytes for one class`);
});

test('no entry needs another package, but React for its hooks', async () => {
  const { dependencies } = JSON.parse(await read('package.json'));
  assert.equal(dependencies, undefined);
  for (const name of ['index', 'encrypted', 'pusher', 'pusher-encrypted', 'recover', 'react']) {
    const text = await read(`${rebuilt}/es/${name}.js`);
    const imported = [...text.matchAll(/from "([^".][^"]*)"/g)].map(([, specifier]) => specifier);
    assert.deepEqual(imported, name === 'react' ? ['react'] : []);
  }
});

test('types are right for ES modules and CommonJS', async () => {
  await run('npx', ['tsc', '-p', 'test/consumers'], { cwd: root }).catch(({ stdout }) => assert.fail(stdout));
});

test('the lock file names no other place to download from than the registry', async () => {
  const { packages } = JSON.parse(await read('package-lock.json'));
  const hosts = Object.values(packages).flatMap(({ resolved }) => (resolved ? [new URL(resolved).host] : []));
  assert.deepEqual(
    hosts.filter((host) => host !== 'registry.npmjs.org'),
    [],
  );
});

/** An entry as the bundle of an application has it. */
async function bundled(entry, source = "export * from 'ENTRY'") {
  const path = new URL(entry, root).pathname;
  const result = await build({
    root: root.pathname,
    configFile: false,
    logLevel: 'warn',
    plugins: [
      {
        name: 'entry',
        resolveId: (id) => (id === 'virtual:entry' ? id : undefined),
        load: (id) => (id === 'virtual:entry' ? source.replace('ENTRY', path) : undefined),
      },
    ],
    build: {
      write: false,
      minify: true,
      target: 'es2022',
      rolldownOptions: {
        input: 'virtual:entry',
        external: ['react'],
        preserveEntrySignatures: 'strict',
        output: { format: 'es' },
      },
    },
  });
  return [result]
    .flat()[0]
    .output.map(({ code }) => code ?? '')
    .join('');
}
