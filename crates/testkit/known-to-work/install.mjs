// Packages of npm, PyPI and Debian at the versions that rows name, in a temporary folder, one at a time.
import { execFile } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** The longest that a registry may take for a package, in milliseconds. */
const INSTALL_TIMEOUT = 600_000;

/** The software can't be had on this machine, so nothing can be said about it. */
export class NotAvailable extends Error {}

/** A folder that is removed when the process ends, with everything in it. */
export async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'fanfare-known-to-work-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  return { path, installed: new Map() };
}

let before = Promise.resolve();
let count = 0;

/** Runs one installation after the other: they need the processor, and rows that are idle don't. */
function inTurn(work) {
  const turn = before.then(work);
  before = turn.catch(() => {});
  return turn;
}

/** What `install` returns, which runs once for all calls with the same `key`. */
function once({ installed }, key, install) {
  const name = JSON.stringify(key);
  if (!installed.has(name)) installed.set(name, inTurn(install));
  return installed.get(name);
}

async function command(program, args, options = {}) {
  try {
    return (await run(program, args, { timeout: INSTALL_TIMEOUT, maxBuffer: 1 << 26, ...options })).stdout;
  } catch (error) {
    throw new NotAvailable(`${program} ${args.join(' ')}: ${(error.stderr || error.message).trim().split('\n').slice(-3).join(' ')}`);
  }
}

/** The version that a program says, by a command of its own. */
export async function versionOf(program, args, pattern, env) {
  const { stdout, stderr } = await run(program, args, { env: { ...process.env, ...env } }).catch((error) => {
    if (error.stdout === undefined || error.code === 'ENOENT') throw new NotAvailable(`${program} is not installed`);
    return error;
  });
  const found = `${stdout}${stderr}`.match(pattern);
  if (!found) throw new NotAvailable(`${program} does not say its version: ${stdout}${stderr}`);
  return found[1];
}

/** The version of the Chromium that rows use. */
export function chromiumVersion() {
  return versionOf(process.env.FANFARE_CHROMIUM ?? '/usr/bin/chromium', ['--version'], /(\d\S+)/);
}

async function newFolder({ path }) {
  const folder = join(path, String((count += 1)));
  await mkdir(folder);
  return folder;
}

/**
 * Installs `{ NAME: VERSION }` of npm, once for all rows that name the same. Returns the folder for programs that import them, and the
 * versions that are there.
 */
export function installNpm(temporary, packages) {
  return once(temporary, ['npm', packages], async () => {
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

/** Installs `{ NAME: VERSION }` of PyPI. Returns a `python` that has them and nothing else of PyPI's, and the versions that are there. */
export function installPyPI(temporary, packages) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    const named = Object.entries(packages).map(([name, version]) => `${name}==${version}`);
    await command('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', folder, ...named]);
    const python = join(folder, 'bin/python');
    await mkdir(join(folder, 'bin'), { recursive: true });
    await writeFile(python, `#!/bin/sh\nPYTHONPATH='${folder}' exec python3 "$@"\n`, { mode: 0o755 });
    const ask = 'import importlib.metadata as m, sys; print("\\n".join(m.version(n) for n in sys.argv[1:]))';
    const found = (await command(python, ['-c', ask, ...Object.keys(packages)])).trim().split('\n');
    return { folder, python, versions: Object.fromEntries(Object.keys(packages).map((name, index) => [name, found[index]])) };
  });
}

/** Clones `{ OWNER/NAME: TAG }`, or a commit, from GitHub: software that is in none of the registries. Returns the folders by their names. */
export function cloneGit(temporary, repositories) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    const sources = {};
    for (const [name, at] of Object.entries(repositories)) {
      sources[name] = join(folder, name.split('/')[1]);
      await command('git', ['clone', '-q', `https://github.com/${name}`, sources[name]]);
      await command('git', ['-C', sources[name], 'checkout', '-q', '--detach', at]);
    }
    return { folder, sources };
  });
}

/** Compiles something of a row, in turn with installations. */
export function compile(program, args, options) {
  return inTurn(() => command(program, args, options));
}

/** Installs packages of PyPI that run under Python 2.7 only, which must be there: `PYTHON2` names it, or pyenv has it. */
export function installPyPI2(temporary, packages) {
  return (temporary.python2 ??= inTurn(async () => {
    const python = process.env.PYTHON2 ?? join(homedir(), '.pyenv/versions/2.7.18/bin/python');
    if (!existsSync(python)) throw new NotAvailable('there is no Python 2.7: PYTHON2 may name it');
    const folder = await newFolder(temporary);
    const named = Object.entries(packages).map(([name, version]) => `${name}==${version}`);
    const quiet = ['--quiet', '--no-compile', '--disable-pip-version-check'];
    await command(python, ['-m', 'pip', 'install', ...quiet, '--target', folder, ...named]);
    return { folder, python };
  }));
}

/**
 * Unpacks Debian packages, those that `apt-get download` finds, below a folder, once for all rows that name the same. Returns it as
 * `root`, and the versions that are there.
 */
export function unpackDebian(temporary, packages, options = []) {
  return once(temporary, ['debian', packages, options], async () => {
    const folder = await newFolder(temporary);
    await command('apt-get', [...options, 'download', '-q', ...packages], { cwd: folder });
    const root = join(folder, 'root');
    const versions = {};
    for (const file of (await readdir(folder)).filter((name) => name.endsWith('.deb'))) {
      await command('dpkg', ['-x', join(folder, file), root]);
      const [name, version] = (await command('dpkg-deb', ['-f', join(folder, file), 'Package', 'Version'])).trim().split('\n');
      versions[name.replace('Package: ', '')] = version.replace('Version: ', '');
    }
    return { folder, root, versions };
  });
}

/**
 * Unpacks packages of another suite of Debian, which needs no installation of its own: programs run with the suite's own C library.
 * `program(path)` is the beginning of such a command.
 */
export async function unpackSuite(temporary, suite, packages) {
  const options = await (((temporary.suites ??= {})[suite] ??= suiteOptions(temporary, suite)));
  const { root, versions } = await unpackDebian(temporary, ['libc6', ...packages].map((name) => `${name}/${suite}`), options);
  // Some programs are run by a user of their own.
  await chmod(temporary.path, 0o755);
  const libraries = join(root, 'usr/lib/x86_64-linux-gnu');
  const program = (path) => [join(libraries, 'ld-linux-x86-64.so.2'), '--library-path', libraries, join(root, path)];
  return { root, versions, program };
}

/** Package lists of a suite beside those of the system, from the same archive. */
function suiteOptions(temporary, suite) {
  return inTurn(async () => {
    const folder = await newFolder(temporary);
    const archives = await command('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']);
    const archive = archives.split('\n').find((line) => /\/debian\/?$/.test(line));
    if (!archive) throw new NotAvailable("there is no archive of Debian among the system's");
    await writeFile(join(folder, 'list'), `deb ${archive} ${suite} main\n`);
    await mkdir(join(folder, 'lists/partial'), { recursive: true });
    const set = {
      'Dir::Etc::sourcelist': join(folder, 'list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State::lists': join(folder, 'lists'),
      'Dir::Cache::pkgcache': '',
      'Dir::Cache::srcpkgcache': '',
      'Acquire::Languages': 'none',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    };
    const options = Object.entries(set).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
    await command('apt-get', [...options, 'update', '-q']);
    return options;
  });
}
