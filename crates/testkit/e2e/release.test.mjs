// scripts/release refuses what is no release, and says what to do. What it makes is not made here: that takes two optimised builds.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';

const ROOT = new URL('../../../', import.meta.url).pathname;
const VERSIONED = ['Cargo.toml', 'Cargo.lock', 'CHANGELOG.md', 'sdk/js/package.json', 'deploy/helm/fanfare/Chart.yaml', 'deploy/kubernetes/kustomization.yaml'];
const [, version] = /^version = "(.*)"$/m.exec(readFileSync(`${ROOT}Cargo.toml`, 'utf8'));

const temp = mkdtempSync(`${tmpdir()}/fanfare-release-`);
after(() => rmSync(temp, { recursive: true }));
const git = (...arguments_) => execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@example.com', ...arguments_], { cwd: temp, stdio: 'pipe' });
const change = (path, from, to) => {
  const text = readFileSync(`${temp}/${path}`, 'utf8');
  assert.ok(text.includes(from), `${path} has no ${from}`);
  writeFileSync(`${temp}/${path}`, text.replace(from, to));
};
const release = (...arguments_) => spawnSync('scripts/release', arguments_, { cwd: temp, encoding: 'utf8' });

// A repository that can be released, but for what a test changes.
before(() => {
  for (const path of [...VERSIONED, 'scripts/release']) {
    mkdirSync(dirname(`${temp}/${path}`), { recursive: true });
    cpSync(`${ROOT}${path}`, `${temp}/${path}`);
  }
  change('CHANGELOG.md', '## [Unreleased]', `## [Unreleased]\n\n## [${version}] - 2030-01-31`);
  git('init', '--quiet');
  git('add', '.');
  git('commit', '--quiet', '--message', 'Release');
});

test('a commit whose files agree on the version can be released', () => {
  const { status, stdout, stderr } = release('--check', version);
  assert.deepEqual([status, stdout, stderr], [0, `${version} can be released\n`, '']);
});

test('each file that has another version is named', () => {
  const { status, stderr } = release('--check', '99.0.0');
  assert.equal(status, 1);
  for (const path of VERSIONED) assert.match(stderr, new RegExp(`^scripts/release: ${path} .*99\\.0\\.0`, 'm'), path);
});

test('what is not committed, or was released before, is refused', () => {
  change('CHANGELOG.md', '## [Unreleased]', '## [Unreleased]\n');
  assert.match(release('--check', version).stderr, /changes that are not committed/);
  git('tag', `v${version}`);
  git('commit', '--quiet', '--all', '--message', 'Later');
  assert.match(release('--check', version).stderr, new RegExp(`the tag v${version.replaceAll('.', '\\.')} is of another commit`));
  git('tag', '--delete', `v${version}`);
  assert.equal(release('--check', version).status, 0);
});

test('a version, and nothing else, is wanted', () => {
  assert.match(release('--check', `v${version}`).stderr, /is no version: it is like 1\.2\.3 or 1\.2\.3-rc\.1, without v/);
  for (const arguments_ of [[], ['--check'], [version, version], ['--chekc', version]]) {
    const { status, stderr } = release(...arguments_);
    assert.deepEqual([status, /usage: scripts\/release/.test(stderr)], [2, true], arguments_.join(' '));
  }
});

test('a missing tool is named, with how to get it', () => {
  // A folder with nothing but what the checks themselves need.
  const bin = `${temp}/.bin`;
  mkdirSync(bin);
  for (const name of ['bash', 'uname', 'sed', 'grep', 'git', 'dirname', 'env', 'xargs', 'test']) {
    const path = execFileSync('which', [name], { encoding: 'utf8' }).trim();
    execFileSync('ln', ['-s', path, `${bin}/${name}`]);
  }
  const { status, stderr } = spawnSync('scripts/release', ['--draft', version], { cwd: temp, encoding: 'utf8', env: { PATH: bin } });
  assert.equal(status, 1);
  for (const words of ['cargo-deb is missing: cargo install cargo-deb --locked', 'musl-gcc is missing: apt-get install musl-tools', 'helm is missing']) {
    assert.ok(stderr.includes(words), `${words}\n${stderr}`);
  }
});

test('the Debian package and the archives have every unit and every example of deploy', () => {
  const files = (folder) => readdirSync(`${ROOT}${folder}`, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => `${folder}/${name}`);
  const units = files('deploy/systemd').filter((path) => path.endsWith('.socket'));
  const examples = files('deploy').filter((path) => /\.(conf|cfg|vcl)$|\/Caddyfile$/.test(path));
  const monitoring = files('deploy/monitoring').filter((path) => !path.includes('.test.'));
  assert.deepEqual([units.length, examples.length, monitoring.length], [3, 9, 4]);
  const [, assets] = /^assets = \[\n(.*?)^\]$/ms.exec(readFileSync(`${ROOT}crates/server/Cargo.toml`, 'utf8'));
  const [, archived] = /cp -r deploy\/\{(.*)\}/.exec(readFileSync(`${ROOT}scripts/release`, 'utf8'));
  for (const path of [...units, ...examples, ...monitoring]) assert.ok(assets.includes(`"../../${path}"`), path);
  // None of them listens on for a program that is gone.
  const [, stopped] = /deb-systemd-invoke stop (.*) \|\|/.exec(readFileSync(`${ROOT}deploy/debian/prerm`, 'utf8')) ?? [];
  assert.deepEqual(stopped.split(' ').filter((unit) => unit.endsWith('.socket')).sort(), units.map((path) => path.split('/').pop()).sort());
  assert.deepEqual([...examples, 'deploy/systemd', 'deploy/monitoring'].filter((path) => !archived.split(',').includes(path.slice('deploy/'.length))), []);
});

test('the workflows run what the documents say, with pinned actions and the least rights', () => {
  const folder = `${ROOT}.github/workflows`;
  const workflows = Object.fromEntries(readdirSync(folder).map((file) => [file, readFileSync(`${folder}/${file}`, 'utf8')]));
  assert.deepEqual(Object.keys(workflows).sort(), ['ci.yml', 'release.yml']);
  for (const [file, text] of Object.entries(workflows)) {
    const { permissions, jobs } = parse(text);
    assert.deepEqual(permissions, {}, file);
    for (const [name, job] of Object.entries(jobs)) {
      assert.ok(job.permissions && job['timeout-minutes'], `${file}: ${name}`);
      for (const { uses, with: options } of job.steps.filter(({ uses }) => uses)) {
        assert.match(uses, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/, `${file}: ${name}`);
        if (uses.startsWith('actions/checkout@')) assert.equal(options['persist-credentials'], false);
      }
    }
    for (const [line] of text.matchAll(/^.*uses: .*$/gm)) assert.match(line, / # v\d+\.\d+\.\d+$/);
    // What comes from outside reaches a shell as a variable only.
    for (const { run } of Object.values(jobs).flatMap(({ steps }) => steps)) assert.doesNotMatch(run ?? '', /\$\{\{/);
  }
  const commands = (file) => Object.values(parse(workflows[file]).jobs).flatMap(({ steps }) => steps.map(({ run }) => run ?? ''));
  assert.ok(commands('ci.yml').includes('scripts/test'));
  assert.match(readFileSync(`${ROOT}README.md`, 'utf8'), /^scripts\/test$/m);
  assert.ok(commands('release.yml').some((run) => /scripts\/release "\$MODE" "\$VERSION"$/.test(run)));
  const [, rust] = /rust-version = "(.*)"/.exec(readFileSync(`${ROOT}Cargo.toml`, 'utf8'));
  assert.equal(parse(workflows['ci.yml']).jobs.test.container.image, `rust:${rust}-bookworm`);
  assert.ok(commands('release.yml').some((run) => run.includes(`rustup toolchain install ${rust} `)));
});
