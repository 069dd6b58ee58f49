// Makes dist/ before the package is packed, or installed from its folder. npm does not install what a folder's build needs
// when another project depends on that folder, so this does.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';

const root = new URL('..', import.meta.url);
const run = (command, ...args) => execFileSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });

try {
  createRequire(import.meta.url).resolve('vite');
} catch {
  run('npm', 'ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund');
}
run(process.execPath, 'scripts/build.mjs');
