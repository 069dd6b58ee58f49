// Packages of npm, PyPI and Debian at the versions that rows name, in a temporary folder, one at a time.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** The longest that a registry may take for a package, in milliseconds. */
const INSTALL_TIMEOUT = 240_000;

/** The software can't be had on this machine, so nothing can be said about it. */
export class NotAvailable extends Error {}

/** A folder that is removed at the end, with everything in it. */
export async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'fanfare-known-to-work-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

let before = Promise.resolve();
let count = 0;

/** Runs one installation after the other: they need the processor, and rows that are idle don't. */
function inTurn(work) {
  const turn = before.then(work);
  before = turn.catch(() => {});
  return turn;
}

async function command(program, args, options = {}) {
  try {
    return (await run(program, args, { timeout: INSTALL_TIMEOUT, maxBuffer: 1 << 26, ...options })).stdout;
  } catch (error) {
    throw new NotAvailable(`${program} ${args.join(' ')}: ${(error.stderr || error.message).trim().split('\n').slice(-3).join(' ')}`);
  }
}

async function newFolder({ path }) {
  const folder = join(path, String((count += 1)));
  await mkdir(folder);
  return folder;
}

/** Installs `{ NAME: VERSION }` of npm. Returns the folder for programs that import them, and the versions that are there. */
export function installNpm(temporary, packages) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    await writeFile(join(folder, 'package.json'), '{"private":true,"type":"module"}');
    const named = Object.entries(packages).map(([name, version]) => `${name}@${version}`);
    await command('npm', ['install', '--silent', '--no-audit', '--no-fund', ...named], { cwd: folder });
    const versions = {};
    for (const name of Object.keys(packages)) {
      versions[name] = JSON.parse(await readFile(join(folder, 'node_modules', name, 'package.json'), 'utf8')).version;
    }
    return { folder, versions };
  });
}

/** Installs `{ NAME: VERSION }` of PyPI in a virtual environment. Returns its Python, and the versions that are there. */
export function installPyPI(temporary, packages) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    await command('python3', ['-m', 'venv', folder]);
    const python = join(folder, 'bin/python');
    const named = Object.entries(packages).map(([name, version]) => `${name}==${version}`);
    await command(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...named]);
    const ask = 'import importlib.metadata as m, sys; print("\\n".join(m.version(n) for n in sys.argv[1:]))';
    const found = (await command(python, ['-c', ask, ...Object.keys(packages)])).trim().split('\n');
    return { folder, python, versions: Object.fromEntries(Object.keys(packages).map((name, index) => [name, found[index]])) };
  });
}

/** Unpacks Debian packages, those that `apt-get download` finds, below a folder. Returns it as `root`, and the versions. */
export function unpackDebian(temporary, packages, options = []) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    await command('apt-get', [...options, 'download', '-q', ...packages], { cwd: folder });
    const root = join(folder, 'root');
    const versions = {};
    for (const file of (await readdir(folder)).filter((name) => name.endsWith('.deb'))) {
      await command('dpkg', ['-x', join(folder, file), root]);
      const [name, version] = (await command('dpkg-deb', ['-f', join(folder, file), 'Package', 'Version'])).trim().split('\n');
      versions[name.replace('Package: ', '')] = version.replace('Version: ', '');
    }
    return { root, versions };
  });
}
