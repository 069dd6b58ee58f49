// Makes everything in dist/, or in another folder that is named. The same sources give the same bytes. With --modules, the
// committed scripts stay as they are.
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';
import { build } from 'vite';

const root = new URL('..', import.meta.url);
const { values, positionals } = parseArgs({ options: { modules: { type: 'boolean' } }, allowPositionals: true });
const [out = 'dist'] = positionals;
const folder = new URL(`${out}/`, root);
const run = promisify(execFile);

const parts = values.modules ? ['es', 'cjs'] : [''];
for (const part of parts) await rm(new URL(part, folder), { recursive: true, force: true });
for (const mode of values.modules ? ['modules'] : ['modules', 'script', 'script-encrypted', 'script-recover']) {
  await build({ root: root.pathname, mode, logLevel: 'warn', build: { outDir: folder.pathname } });
}
await run('npx', ['tsc', '-p', 'tsconfig.build.json', '--outDir', `${folder.pathname}es`], { cwd: root });

// Node takes the types of CommonJS modules only from beside them.
const types = (await readdir(new URL('es/', folder), { recursive: true })).filter((name) => name.endsWith('.d.ts'));
for (const name of types) {
  const target = new URL(`cjs/${name}`, folder);
  await mkdir(new URL('.', target), { recursive: true });
  await cp(new URL(`es/${name}`, folder), target);
}
await writeFile(new URL('cjs/package.json', folder), '{ "type": "commonjs" }\n');
