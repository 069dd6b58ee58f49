// What the documents show is right: it has the types of the built package, and the first example runs.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { until } from '../support/wait.mjs';

const run = promisify(execFile);
const root = new URL('../../', import.meta.url);
const folder = new URL('test/consumers/documents/', root);
const blocks = [];
for (const [name, path] of [
  ['readme', 'README.md'],
  ['sdk', '../../docs/sdk.md'],
]) {
  const text = await readFile(new URL(path, root), 'utf8');
  for (const [, language, code] of text.matchAll(/^```(tsx?)\n(.*?)^```$/gms)) {
    blocks.push({ file: `${name}-${blocks.length}.${language === 'ts' ? 'mts' : 'tsx'}`, code });
  }
}

before(() => mkdir(folder, { recursive: true }));
after(() => rm(folder, { recursive: true, force: true }));

test('every example has the right types', async () => {
  assert.ok(blocks.length > 10);
  // Some have top-level await, and all must be modules.
  for (const { file, code } of blocks) await writeFile(new URL(file, folder), `${code}\nexport {};\n`);
  const options = {
    extends: '../tsconfig.json',
    compilerOptions: { jsx: 'react-jsx', types: ['node', 'react'] },
    include: ['.'],
  };
  await writeFile(new URL('tsconfig.json', folder), JSON.stringify(options));
  await run('npx', ['tsc', '-p', folder.pathname], { cwd: root }).catch(({ stdout }) => assert.fail(stdout));
});

test('the file to install is named as npm names it', async () => {
  const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
  for (const path of ['README.md', '../../docs/sdk.md']) {
    const text = await readFile(new URL(path, root), 'utf8');
    const named = new Set(text.match(/fanfare-client-[^\s/`]+\.tgz/g));
    assert.deepEqual(named, new Set([`fanfare-client-${version}.tgz`]), path);
    // It is not in the registry yet.
    assert.doesNotMatch(text, /npm install @fanfare/);
  }
});

test('the first example does what it says', async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const lines = [];
  const file = new URL('first.mjs', folder);
  const code = blocks
    .find(({ file: name }) => name.startsWith('sdk'))
    .code.replace("'APP_KEY'", `'${server.app.key}'`)
    .replace('https://realtime.example.com', server.url)
    .replace("'@fanfare/client'", `'${new URL('dist/es/index.js', root)}'`);
  await writeFile(file, `${code}\nprocess.stdout.write('ready\\n');\n`);
  const child = execFile(process.execPath, [file.pathname]);
  t.after(() => child.kill());
  child.stdout.on('data', (text) => lines.push(text));
  await until(() => lines.join('').includes('ready'));
  await server.sdk().trigger('orders', 'shipped', { id: 42 });
  await until(() => lines.join('').includes('{ id: 42 }'));
});
