// The package as people get it: packed, and installed into an empty project, or installed from its folder.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startBrowser } from '../../../../crates/testkit/e2e/browser.mjs';
import { startHttp, startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { until } from '../support/wait.mjs';

const exec = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const modules = join(root, 'node_modules');
const work = await mkdtemp(join(tmpdir(), 'fanfare-package-'));
const checkout = join(work, 'checkout');
const { version, exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const tarball = join(work, `fanfare-client-${version}.tgz`);
const entries = Object.keys(exports)
  .filter((name) => !/\.js(on)?$/.test(name))
  .map((name) => `@fanfare/client${name.slice(1)}`);
const server = await startServer();

/** Settings of the npm that runs these tests must not reach the one that is tested. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
const run = (cwd, program, ...args) => exec(program, args, { cwd, env: { ...env, CI: '1' } });
const npm = (cwd, command, ...args) => run(cwd, 'npm', command, '--offline', '--no-audit', '--no-fund', ...args);

before(async () => {
  // A checkout before anything was built, so that what is packed was made by packing.
  await mkdir(checkout);
  const { stdout } = await run(root, 'git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '.');
  for (const file of stdout.split('\0').filter(Boolean)) await cp(join(root, file), join(checkout, file));
  await symlink(modules, join(checkout, 'node_modules'));
  await npm(checkout, 'pack', '--pack-destination', work);
});
after(async () => {
  await server.stop();
  await rm(work, { recursive: true, force: true });
});

/** An empty project with the package, and with packages of these tests beside it. */
async function project(name, source, others = []) {
  const path = join(work, name);
  await mkdir(path);
  await writeFile(join(path, 'package.json'), JSON.stringify({ name, private: true }));
  await npm(path, 'install', source);
  await mkdir(join(path, 'node_modules/@types'), { recursive: true });
  for (const other of others) await symlink(join(modules, other), join(path, 'node_modules', other));
  return path;
}

/** Programs that receive an event in plain Node; `HOW` is what gives them the module. */
const program = (how) => `
  const [url, key] = process.argv.slice(2);
  (async () => {
    const { Fanfare } = ${how};
    const client = new Fanfare(key, { url, transports: ['streaming'] });
    const channel = client.channel('news');
    channel.bind('e', (data) => { console.log(data.text); client.disconnect(); });
    await channel.ready();
    console.log('ready');
  })();`;

async function receives(path, file, how, channel = 'news') {
  await writeFile(join(path, file), program(how));
  const child = execFile(process.execPath, [file, server.url, server.app.key], { cwd: path });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (printed += text));
  try {
    await until(() => printed.includes('ready') || child.exitCode !== null, 'ready');
    await server.sdk().trigger(channel, 'e', { text: 'arrived' });
    await until(() => printed.includes('arrived') || child.exitCode !== null, 'the event');
    assert.equal(printed, 'ready\narrived\n');
  } finally {
    child.kill();
  }
}

test('the tarball has what is built and the sources, and nothing else', async () => {
  const { stdout } = await run(work, 'tar', 'tzf', tarball);
  const folders = new Set(stdout.trim().split('\n').map((line) => line.split('/').slice(1, 3).join('/')));
  for (const needed of ['dist/es', 'dist/cjs', 'dist/fanfare.js', 'dist/fanfare-encrypted.js', 'dist/recover.js']) {
    assert.ok(folders.has(needed), `${needed} is missing`);
  }
  for (const name of folders) assert.match(name, /^(dist|src)\/|^(package\.json|README\.md)$/);
});

test('installed from the tarball, every entry can be imported and required, and the client connects', async () => {
  const path = await project('plain', tarball, ['react', 'react-dom', 'scheduler']);
  const list = JSON.stringify(entries);
  const imports = `for (const name of ${list}) console.log(name, Object.keys(await import(name)).sort().join());`;
  const requires = `for (const name of ${list}) console.log(name, typeof require(name));`;
  await writeFile(join(path, 'imports.mjs'), imports);
  await writeFile(join(path, 'requires.cjs'), requires);
  const { stdout: imported } = await run(path, process.execPath, 'imports.mjs');
  assert.match(imported, /^@fanfare\/client Channel,Fanfare,FanfareError,PresenceChannel$/m);
  assert.match(imported, /^@fanfare\/client\/recover recover$/m);
  assert.match(imported, /^@fanfare\/client\/encrypted encryption,encryptionWith$/m);
  assert.match(imported, /^@fanfare\/client\/react FanfareProvider,use/m);
  const { stdout: required } = await run(path, process.execPath, 'requires.cjs');
  for (const name of entries) assert.match(required, new RegExp(`^${name} (object|function)$`, 'm'));
  await receives(path, 'receive.mjs', "await import('@fanfare/client')");
  await receives(path, 'receive.cjs', "require('@fanfare/client')");
});

test('installed from the tarball, the types are right for ES modules and CommonJS', async () => {
  const path = await project('typed', tarball, ['@types/node', '@types/react', 'csstype', 'undici-types', 'pusher-js', 'react']);
  for (const file of await readdir(join(root, 'test/consumers'))) {
    if (/\.[cm]ts$|\.json$/.test(file)) await cp(join(root, 'test/consumers', file), join(path, file));
  }
  await run(path, join(modules, '.bin/tsc'), '-p', '.').catch(({ stdout }) => assert.fail(stdout));
});

test('installed from the tarball, a React page that Vite builds receives events in a browser', async (t) => {
  const path = await project('page', tarball, ['react', 'react-dom', 'scheduler', 'vite']);
  await writeFile(join(path, 'index.html'), '<!doctype html><link rel="icon" href="data:,"><body><main></main><script type="module" src="/main.jsx"></script>');
  await writeFile(
    join(path, 'main.jsx'),
    `import React, { useState } from 'react';
    import { createRoot } from 'react-dom/client';
    import { Fanfare } from '@fanfare/client';
    import { encryption } from '@fanfare/client/encrypted';
    import Pusher from '@fanfare/client/pusher';
    import { recover } from '@fanfare/client/recover';
    import { FanfareProvider, useConnectionState, useEvent } from '@fanfare/client/react';

    const client = new Fanfare('${server.app.key}', { url: '${server.url}', encryption });
    Object.assign(globalThis, { client, Pusher, recover });
    function Headline() {
      const [text, setText] = useState('none yet');
      useEvent('page', 'headline', (data) => setText(data.text));
      return <p>{useConnectionState()}: {text}</p>;
    }
    createRoot(document.querySelector('main')).render(<FanfareProvider client={client}><Headline /></FanfareProvider>);`,
  );
  await run(path, process.execPath, join(modules, 'vite/bin/vite.js'), 'build', '--logLevel', 'warn');
  const types = { '.html': 'text/html', '.js': 'text/javascript' };
  const site = await startHttp(async (request, response) => {
    const file = request.url === '/' ? '/index.html' : request.url;
    response.writeHead(200, { 'content-type': types[extname(file)] });
    response.end(await readFile(join(path, 'dist', file)));
  });
  t.after(() => site.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  await page.waitForFunction(() => globalThis.client?.channel('page').state === 'subscribed');
  await server.sdk().trigger('page', 'headline', { text: 'It works' });
  await page.locator('p', { hasText: 'connected: It works' }).waitFor();
  browser.assertQuiet();
});

test('installed from its folder, which npm builds for it, the client connects', async () => {
  await rm(join(checkout, 'dist'), { recursive: true });
  const path = await project('linked', checkout);
  await receives(path, 'receive.mjs', "await import('@fanfare/client')");
  await receives(path, 'receive.cjs', "require('@fanfare/client')");
});
