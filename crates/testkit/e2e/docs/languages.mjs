// How the blocks of each language are run where their page doesn't say otherwise.
import assert from 'node:assert/strict';
import { parse as parseYaml } from 'yaml';

export const LANGUAGES = {
  sh: shell,
  json,
  toml,
  yaml,
  js: javascript,
  ts: javascript,
  python: (block, page) => program(block, page, 'py', (file) => `python3 ${file}`),
  php: (block, page) => program(block, page, 'php', (file) => `php ${file}`),
  ruby: (block, page) => program(block, page, 'rb', (file) => `ruby ${file}`),
  go: (block, page) => program(block, page, 'go', (file) => `go run ${file}`),
  html: (block) => assert.fail(`${block.at}: say in docs/pages.mjs what a browser does with it`),
  diff: (block) => assert.fail(`${block.at}: only the tutorial's test applies changes`),
  tsx: (block) => assert.fail(`${block.at}: say in docs/pages.mjs what a browser does with it`),
  sql: (block, page) => page.shell(`psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'END_OF_SQL'\n${page.fill(block.code)}END_OF_SQL\n`),
  nginx,
  haproxy: (block, page) => checked(block, page, 'haproxy.cfg', haproxyFile(block.code), (file) => `haproxy -c -f ${file}`),
  caddy: (block, page) => checked(block, page, 'Caddyfile', block.code, (file) => `caddy validate --adapter caddyfile --config ${file}`),
  ini: environment,
  // It calls a directive that it doesn't know a success, and says so.
  systemd: (block, page) => checked(block, page, 'fanfare.service', block.code, (file) => `systemd-analyze verify ${file} 2>&1 | (! grep .)`),
};

/** Whether a program can be called in the page's shell. The test says which couldn't. */
export async function has(page, name) {
  const is = (await page.shell(`type -P ${name} || true`)) !== '';
  if (!is) page.missing.add(name);
  return is;
}

/** It prints what the page shows below it: these lines, in this order, with others between. A page may write … for any text. */
async function shell({ code, output }, page) {
  const printed = await page.shell(page.fill(code));
  // A server takes changes of its store within a second.
  if (/\bfanfare (app|key|webhook|outbox) /.test(code)) await page.settle();
  if (output === undefined) return;
  const [lines, shown] = [steady(printed), steady(page.fill(output))].map((text) => text.split('\n'));
  let from = 0;
  for (const line of shown) {
    const pattern = new RegExp(`^${line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`);
    const found = lines.slice(from).findIndex((other) => pattern.test(other.trim()));
    assert.notEqual(found, -1, `the page shows\n${output}but it printed\n${printed}`);
    from += found + 1;
  }
}

/** Without what differs from run to run: dates, times, ids, addresses, and the width of columns. */
function steady(text) {
  const numbers = text.replaceAll(/\b(?=\w*\d)[0-9a-f]{16,}\b/g, 'HEX').replaceAll(/\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?Z?)?/g, 'DATE');
  return numbers.replaceAll(/\b\d+\.\d{6,}\b/g, 'ID').replaceAll(/[ \t]+/g, ' ').replaceAll(/^ | $/gm, '').trim();
}

/** One value, or one a line. */
function json({ at, code }) {
  try {
    JSON.parse(code);
  } catch {
    for (const line of code.trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line), `${at}: it isn't JSON: ${line}`);
  }
}

/** A configuration file of Fanfare's: every setting is known and has a possible value. */
async function toml(block, page) {
  const file = page.write('block.toml', page.fill(block.code));
  const names = [...block.code.matchAll(/^([a-z_]+) =/gm)].map(([, name]) => name);
  const printed = await page.shell(`(unset $(compgen -e FANFARE_) && fanfare --config ${file} config)`);
  for (const name of names) assert.match(printed, new RegExp(`${name}\\b.*block.toml`), `${block.at}: ${name} isn't taken:\n${printed}`);
}

/** Settings by name, as an environment file has them. */
async function environment({ at, code }, page) {
  for (const line of code.trim().split('\n')) assert.match(line, /^(#.*|[A-Z_]+=.*|)$/, `${at}: ${line}`);
  if (/^FANFARE_/m.test(code)) await page.shell(`(set -a\n${page.fill(code)}\nfanfare config)`);
}

/** Prometheus reads its own; of all else, that it is YAML. */
async function yaml(block, page) {
  const value = parseYaml(block.code);
  assert.equal(typeof value, 'object', block.at);
  if (!value.scrape_configs) return;
  await page.shell('touch fanfare.token');
  await checked(block, page, 'prometheus.yml', block.code, (file) => `promtool check config ${file}`);
}

/** With as much of a configuration around it as it needs. */
async function nginx(block, page) {
  let { code } = block;
  if (!/^\s*(server|upstream|map|http|stream) /m.test(code)) code = `server { listen 8080;\n${code}}\n`;
  if (!/^(http|stream) /m.test(code)) code = `http {\n${code}}\n`;
  const around = `pid ${page.folder}/nginx.pid;\nerror_log stderr;\nevents {}\n`;
  await checked(block, page, 'nginx.conf', around + code, (file) => `nginx -t -q -p ${page.folder} -c ${file}`);
}

function haproxyFile(code) {
  const timeouts = 'defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n';
  return /^(frontend|listen) /m.test(code) ? timeouts + code : `${timeouts}${code}\nfrontend all\n  bind 127.0.0.1:8080\n`;
}

async function checked(block, page, name, code, command) {
  const text = command(page.write(name, page.fill(code)));
  if (await has(page, text.split(' ')[0])) await page.shell(text);
}

/** A program that ends by itself. A file of the page that another block calls or imports is only written. */
function javascript(block, page) {
  return program(block, page, block.language === 'ts' ? 'mts' : 'mjs', (file) => `node ${file}`);
}

async function program(block, page, extension, command) {
  const file = page.write(block.file ?? `${block.at.replaceAll(/\W/g, '-')}.${extension}`, page.fill(block.code));
  if (block.isUsed) return;
  const text = command(file);
  if (await has(page, text.split(' ')[0])) await page.shell(text);
}
