// The pages in docs/quickstart, docs/history.md and those of moving, tried out: their snippets are taken from them as they stand and run against the
// built server. What a language needs is used where it is there: its runtime for whether snippets can be read, its Pusher SDK to
// run them.
//
// Node's SDK and pusher-js come with these tests, Python's with scripts/test. For the others install the SDK where the runtime finds it:
// gem install pusher (or RUBYLIB), GOPATH or a module cache, and for PHP name the folder `vendor` in QUICKSTART_PHP_VENDOR.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { connected, eventually, freePort, next, startServer, subscribe } from './harness.mjs';
import { blocks, DOCS, fileName, files, install, listens, pageText, start as startProgram, writeFiles } from './pages.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const TIMEOUT = 20_000;
const run = promisify(execFile);
const work = mkdtempSync(join(tmpdir(), 'fanfare-quickstart-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

/** A folder with the files of these pages. */
function folder(name, ...pages) {
  const path = join(work, name);
  writeFiles(path, pages.flatMap(files));
  return path;
}

const server = await startServer({ app: false });
// Where SDKs are is in the environment of whoever runs this; settings of ours are not to be taken from there.
const theirs = Object.entries(process.env).filter(([name]) => !/^(?:FANFARE_|PUSHER_|DATABASE_URL$)/.test(name));
const surroundings = { ...Object.fromEntries(theirs), FANFARE_DATA_DIR: server.dataDir, FANFARE_DEMO: 'false' };
surroundings.PATH = `${join(work, 'bin')}:${process.env.PATH}`;
install(join(work, 'bin'), 'fanfare', resolve(process.env.FANFARE_BIN));
after(() => server.stop());

// What all quick starts begin with: an app, and its credentials in the environment.
const [createApp, exports] = blocks('quickstart/README.md').filter(({ language }) => language === 'sh');
execFileSync('bash', ['-e'], { input: createApp.code, env: surroundings, stdio: 'pipe' });
const credentials = Object.fromEntries(
  [...exports.code.matchAll(/(PUSHER_\w+)=(\S+)/g)].map(([, name, value]) => [name, value]),
);
credentials.PUSHER_PORT = String(server.port);
server.app = { id: credentials.PUSHER_APP_ID, key: credentials.PUSHER_APP_KEY, secret: credentials.PUSHER_APP_SECRET };
await eventually(() => server.sdk().get({ path: '/channels' }));

/** Runs to its end; the result is what was printed. */
async function output(command, cwd, env = {}) {
  const [program, ...args] = command.split(' ');
  const options = { cwd, env: { ...surroundings, ...credentials, ...env }, timeout: TIMEOUT };
  const { stdout } = await run(program, args, options);
  return stdout;
}

/** Runs beside the test, until it is stopped. */
function start(command, cwd, env = {}) {
  const [program, ...args] = command.split(' ');
  return startProgram(program, args, { cwd, env: { ...surroundings, ...credentials, ...env } });
}

/** Whether a command succeeds; what it says does not matter. */
async function succeeds(program, args, cwd) {
  return run(program, args, { cwd: cwd ?? work, env: surroundings, timeout: TIMEOUT }).then(() => true, () => false);
}

const listener = folder('listener', 'quickstart/README.md');
symlinkSync(join(HERE, 'node_modules'), join(listener, 'node_modules'));

const ROOM = /room-1 message {"text":"one"}\nroom-1 order {"id":42}\n(?:private-orders .*\n)?room-1 message {"text":"two"}\nroom-1 message {"text":"three"}\n/;

/** From publishing to paging, as the page says it is done. The commands must be in the page. */
async function walkThrough(page, path, { publish, refused, auth, look, history }, expectedRefusal) {
  const text = pageText(page);
  for (const command of [publish, auth, look, history]) assert.ok(text.includes(`\`${command}\``), `${page}: ${command}`);
  const port = await freePort();
  const endpoint = start(auth.replace('3000', port), path, { PORT: String(port) });
  let client;
  try {
    await listens(endpoint, port);
    client = start('node listen.mjs', listener, { AUTH_ENDPOINT: `http://127.0.0.1:${port}/pusher/auth` });
    for (const channel of ['room-1', 'private-orders', 'presence-room-1']) await client.until(new RegExp(`subscribed to ${channel}\n`));
    await client.until(/not let into private-of-somebody-else 403\n/);
    assert.equal(await output(publish, path), 'published\n');
    await client.until(/presence-room-1 message {"text": ?"to the members"}/);
    await client.until(/private-orders order {"id": ?42}/);
    assert.match(client.printed, ROOM);
    const printed = blocks(page).findLast(({ language }) => language === 'text').code;
    assert.equal(await output(look, path), printed, `${page}: what ${look} prints`);
  } finally {
    await client?.stop();
    await endpoint.stop();
  }
  assert.match(await output(refused, path), expectedRefusal);
  const lines = (await output(history, path)).trimEnd().split('\n');
  const last = lines.slice(0, 4).map((line) => line.match(/^\S+(?: \S+ UTC)? (.*)$/)[1].replaceAll(' ', ''));
  assert.deepEqual(last, ['message{"text":"three"}', 'message{"text":"two"}', 'order{"id":42}', 'message{"text":"one"}']);
  assert.match(lines[0], /^\d{4}-\d\d-\d\d/);
}

test('node: the page works from its first line to its last', async () => {
  const path = folder('node', 'quickstart/node.md');
  symlinkSync(join(HERE, 'node_modules'), join(path, 'node_modules'));
  const commands = Object.fromEntries(['publish', 'refused', 'auth', 'look', 'history'].map((name) => [name, `node ${name}.mjs`]));
  await walkThrough('quickstart/node.md', path, commands, /^413 .*too large.*20000 bytes, at most 10240/);
});

test('node: letters and mail of the page arrive', async () => {
  const path = folder('node-letters', 'quickstart/node.md');
  symlinkSync(join(HERE, 'node_modules'), join(path, 'node_modules'));
  const makeKey = blocks('quickstart/node.md').find(({ code }) => code.includes('ENCRYPTION_KEY=')).code;
  const key = execFileSync('bash', ['-e'], { input: `${makeKey}\nprintf %s "$ENCRYPTION_KEY"`, encoding: 'utf8' });
  const port = await freePort();
  const address = (path) => `http://127.0.0.1:${port}/pusher/${path}`;
  const endpoints = { AUTH_ENDPOINT: address('auth'), USER_AUTH_ENDPOINT: address('user-auth') };
  const env = { PORT: String(port), ENCRYPTION_KEY: key, ...endpoints };
  const endpoint = start('node auth.mjs', path, env);
  let reader;
  try {
    await listens(endpoint, port);
    reader = start('node reader.mjs', path, env);
    await reader.until(/subscribed to private-encrypted-letters\n/);
    await reader.until(/signed in\n/);
    await output('node letters.mjs', path, env);
    const [, printed] = pageText('quickstart/node.md').match(/The reader prints:\n\n```text\n(.*?)```/s);
    for (const line of printed.trim().split('\n')) await reader.until(new RegExp(`^${line}$`, 'm'));
  } finally {
    await reader?.stop();
    await endpoint.stop();
  }
});

test('each block of the quick starts is a file or a command that these tests run', () => {
  for (const name of ['README', 'node', 'python', 'php', 'laravel', 'ruby', 'go']) {
    for (const { language, mark, code } of blocks(`quickstart/${name}.md`)) {
      const commands = [createApp.code, exports.code];
      if (mark || ['text', 'ini'].includes(language) || commands.includes(code) || code.includes('ENCRYPTION_KEY=')) continue;
      assert.ok(fileName(code), `quickstart/${name}.md:\n${code}`);
    }
  }
});

test('no page limits pusher-js to WebSockets, or lets it fall back to hosted Pusher', () => {
  const pages = execFileSync('git', ['ls-files', '*.md', '*.html'], { cwd: join(DOCS, '..'), encoding: 'utf8' }).trim().split('\n');
  let clients = 0;
  for (const page of pages) {
    const text = readFileSync(join(DOCS, '..', page), 'utf8');
    for (const [code] of text.matchAll(/^```(?:js|ts|tsx|html)\n.*?^```$/gms)) {
      assert.doesNotMatch(code, /enabledTransports/, page);
      // Fanfare's own drop-in falls back to the host of the WebSocket.
      if (!code.includes('wsHost') || code.includes('@fanfare/client/pusher')) continue;
      clients += 1;
      assert.match(code, /httpHost/, `${page}:\n${code}`);
    }
  }
  assert.ok(clients >= 6, `${clients} clients in the pages`);
});

test('python: the page works from its first line to its last', async (t) => {
  const path = folder('python', 'quickstart/python.md');
  // Where scripts/test puts it, else any that has the SDK.
  for (const python of [resolve(dirname(process.env.FANFARE_BIN), '../e2e-venv/bin/python'), 'python3', '']) {
    if (python === '') return t.skip('no Python here has the package pusher');
    if (!(await succeeds(python, ['-c', 'import pusher']))) continue;
    install(join(work, 'bin'), 'python', python);
    break;
  }
  const commands = Object.fromEntries(['publish', 'refused', 'auth', 'look', 'history'].map((name) => [name, `python ${name}.py`]));
  await walkThrough('quickstart/python.md', path, commands, /^413: .*too large.*20000 bytes, at most 10240/);
});

describe('php', () => {
  const path = folder('php', 'quickstart/php.md');
  const vendor = process.env.QUICKSTART_PHP_VENDOR;
  if (vendor) symlinkSync(resolve(vendor), join(path, 'vendor'));

  test('every snippet is PHP', async (t) => {
    if (!(await succeeds('php', ['--version']))) return t.skip('PHP is not installed');
    const laravel = folder('laravel', 'quickstart/laravel.md');
    const all = [['quickstart/php.md', path], ['quickstart/laravel.md', laravel]];
    for (const [page, at] of all) {
      for (const [file] of files(page).filter(([name]) => name.endsWith('.php'))) await output(`php -l ${file}`, at);
    }
  });

  test('the page works from its first line to its last', async (t) => {
    if (!vendor) return t.skip('QUICKSTART_PHP_VENDOR does not say where pusher/pusher-php-server is');
    const commands = Object.fromEntries(['publish', 'refused', 'look', 'history'].map((name) => [name, `php ${name}.php`]));
    commands.auth = 'php -S 127.0.0.1:3000 auth.php';
    await walkThrough('quickstart/php.md', path, commands, /^413 .*too large.*20002 bytes, at most 10240/);
  });

  test('what the page for Laravel configures publishes', async (t) => {
    if (!vendor) return t.skip('QUICKSTART_PHP_VENDOR does not say where pusher/pusher-php-server is');
    const laravel = folder('laravel', 'quickstart/laravel.md');
    const env = blocks('quickstart/laravel.md').find(({ language }) => language === 'ini').code;
    writeFileSync(join(laravel, 'env.ini'), env.replace(/^PUSHER_PORT=.*$/m, `PUSHER_PORT=${server.port}`));
    // What Laravel's driver does with the configuration.
    writeFileSync(join(laravel, 'driver.php'), `<?php
      require '${join(path, 'vendor/autoload.php')}';
      $env = parse_ini_file('env.ini', false, INI_SCANNER_RAW);
      function env($name, $default = null) { return $GLOBALS['env'][$name] ?? $default; }
      $config = require 'config/broadcasting.php';
      $config = $config['connections'][$config['default']];
      $sdk = new Pusher\\Pusher($config['key'], $config['secret'], $config['app_id'], $config['options']);
      echo json_encode($sdk->trigger(['room-1'], 'message', ['text' => 'from Laravel'])), "\\n";`);
    assert.equal(await output('php driver.php', laravel), '{}\n');
  });
});

test("laravel: the page's Echo hears what is published", async () => {
  const path = folder('laravel', 'quickstart/laravel.md');
  symlinkSync(join(HERE, 'node_modules'), join(path, 'node_modules'));
  const [, echo] = files('quickstart/laravel.md').find(([name]) => name.endsWith('echo.js'));
  const settings = Object.entries(credentials).map(([name, value]) => [`VITE_${name}`, value]);
  // What Vite and a browser do.
  const code = echo.replaceAll('import.meta.env', 'process.env').replace('window.Pusher', 'globalThis.window = globalThis;\n$&');
  const said = "window.Echo.connector.pusher.channel('room-1').bind('pusher:subscription_succeeded', () => console.log('subscribed'));\n";
  writeFileSync(join(path, 'echo.mjs'), code + said);
  const client = start('node echo.mjs', path, Object.fromEntries(settings));
  try {
    await client.until(/subscribed/);
    await server.sdk().trigger('room-1', 'message', { text: 'hello Echo' });
    await client.until(/^hello Echo$/m);
  } finally {
    await client.stop();
  }
});

describe('ruby', () => {
  const path = folder('ruby', 'quickstart/ruby.md');

  test('every snippet is Ruby', async (t) => {
    if (!(await succeeds('ruby', ['--version']))) return t.skip('Ruby is not installed');
    for (const [file] of files('quickstart/ruby.md')) assert.equal(await output(`ruby -c ${file}`, path), 'Syntax OK\n');
  });

  test('the page works from its first line to its last', async (t) => {
    if (!(await succeeds('ruby', ['-e', 'require "pusher"; require "webrick"']))) return t.skip('no Ruby here has the gems pusher and webrick');
    const commands = Object.fromEntries(['publish', 'refused', 'auth', 'look', 'history'].map((name) => [name, `ruby ${name}.rb`]));
    await walkThrough('quickstart/ruby.md', path, commands, /^Bad request: Invalid channel name/);
  });
});

describe('go', () => {
  const path = folder('go', 'quickstart/go.md');

  test('every snippet is Go, and formatted', async (t) => {
    if (!(await succeeds('gofmt', ['-h'])) && !(await succeeds('go', ['version']))) return t.skip('Go is not installed');
    for (const [file] of files('quickstart/go.md')) assert.equal(await output(`gofmt -l ${file}`, path), '', `${file} is not as gofmt has it`);
  });

  test('the page works from its first line to its last', async (t) => {
    const sdk = ['list', 'github.com/pusher/pusher-http-go/v5'];
    if (!(await succeeds('go', sdk, path))) return t.skip('no Go here has the package pusher-http-go');
    const commands = Object.fromEntries(
      ['publish', 'refused', 'auth', 'look', 'history'].map((name) => [name, `go run realtime.go ${name}.go`]),
    );
    await walkThrough('quickstart/go.md', path, commands, /413.*too large.*20000 bytes, at most 10240/);
  });
});

describe('history.md', () => {
  const page = blocks('history.md');
  const shell = page.filter(({ language }) => language === 'sh').map(({ code }) => code);
  /** Frames and answers of the page, one a line. */
  const shown = page.filter(({ language }) => language === 'json').flatMap(({ code }) => code.trim().split('\n'));
  /** What differs from run to run: epochs, times, socket ids. */
  const plain = (text) => text.replaceAll(/[0-9a-f]{8}:(\d+)/g, 'epoch:$1').replaceAll(/"time":\d+/g, '"time":0');
  const sdk = server.sdk();
  const publish = (channel, text) => sdk.trigger(channel, 'message', { text });

  test('the command that switches it on does', async () => {
    execFileSync('bash', ['-e'], { input: shell[0], env: surroundings, stdio: 'pipe' });
    const show = JSON.parse(await server.cli('app', 'show', server.app.id, '--json'));
    assert.deepEqual(show.settings.history, [{ channels: 'room-*', size: 100, ttl: 300 }]);
    const body = shell[1].match(/--json '(.*)'/)[1];
    assert.deepEqual(JSON.parse(body).settings.history, show.settings.history);
  });

  // The program that pages through a history is run by docs.test.mjs.
  test('a history is read page by page, and what cannot be read is refused', async () => {
    for (const text of ['one', 'two', 'three']) await publish('room-paged', text);
    const oldest = await (await sdk.get({ path: '/channels/room-paged/events', params: { after: 0, limit: 2 } })).json();
    assert.deepEqual(oldest.events.map(({ data }) => data), ['{"text":"one"}', '{"text":"two"}']);
    assert.equal(oldest.more, true);
    const after = oldest.events.at(-1).position;
    const rest = await (await sdk.get({ path: '/channels/room-paged/events', params: { after } })).json();
    assert.deepEqual([rest.events.map(({ data }) => data), rest.more], [['{"text":"three"}'], false]);
    await assert.rejects(sdk.get({ path: '/channels/elsewhere/events' }), { status: 400 });
    await assert.rejects(sdk.get({ path: '/channels/room-paged/events', params: { before: '00000000:1' } }), { status: 410 });
    await assert.rejects(sdk.get({ path: '/channels/room-paged/events', params: { limit: 1001 } }), { status: 400 });
  });

  test('the frames are those that are shown', async () => {
    for (let n = 1; n <= 42; n += 1) await publish('room-frames', n);
    const [first, told, live, again, back, missed, gone] = shown.map((line) => line.replaceAll('room-1', 'room-frames'));

    const client = await socket();
    client.say(JSON.parse(first));
    const [answer, ...rewound] = await client.hear(3);
    assert.equal(plain(answer), plain(told));
    assert.deepEqual(rewound.map((frame) => JSON.parse(frame).data), ['{"text":41}', '{"text":42}']);
    await publish('room-frames', 'four');
    assert.equal(plain((await client.hear(1))[0]), plain(live));
    server.disconnectClients();

    const position = JSON.parse(rewound[1]).position;
    const returned = await socket();
    const recover = JSON.parse(again);
    assert.equal(plain(recover.data.recover.position), plain(position));
    recover.data.recover = { position, socket_id: client.id };
    returned.say(recover);
    assert.deepEqual((await returned.hear(2)).map(plain), [back, missed].map(plain));
    server.disconnectClients();

    recover.data.recover.position = '00000000:1';
    const late = await socket();
    late.say(recover);
    assert.equal(plain((await late.hear(1))[0]), plain(gone));
    late.say({ event: 'pusher:subscribe', data: { channel: 'elsewhere', recover: recover.data.recover } });
    const off = JSON.parse((await late.hear(1))[0]);
    assert.deepEqual(JSON.parse(off.data), { recovered: false, reason: 'off' });
    late.say({ event: 'pusher:subscribe', data: { channel: 'elsewhere-2', recover: true } });
    assert.equal(JSON.parse((await late.hear(1))[0]).data, '{}');
    server.disconnectClients();
  });

  /** A connection with the frames as they are. */
  async function socket() {
    const client = server.client({ key: server.app.key });
    const id = await connected(client);
    const transport = client.connection.connection.transport;
    const frames = [];
    transport.bind('message', ({ data }) => frames.push(data));
    return {
      id,
      say: (frame) => client.send_event(frame.event, frame.data),
      async hear(count) {
        const deadline = Date.now() + TIMEOUT;
        while (frames.length < count) {
          if (Date.now() > deadline) throw new Error(`${count} frames did not come: ${frames}`);
          await delay(10);
        }
        return frames.splice(0, count);
      },
    };
  }
});

describe('pages of moving', () => {
  const page = ['clients.md', 'move-from-pusher.md', 'move-from-soketi.md', 'move-from-reverb.md', 'move-from-sockudo.md'].flatMap(blocks);
  const sh = (part) => page.find(({ language, code }) => language === 'sh' && code.includes(part)).code;

  test('credentials are imported from each of the others as it is shown', async (t) => {
    if (!(await succeeds('jq', ['--version']))) return t.skip('jq is not installed');
    const path = join(work, 'import');
    mkdirSync(path);
    const app = (id, more) => ({ id, key: `${id}-key`, secret: `${id}-secret`, ...more });
    writeFileSync(join(path, 'soketi.json'), JSON.stringify({ 'appManager.array.apps': [app('soketi-1', { enableClientMessages: true }), app('soketi-2')] }));
    const policy = { features: { enable_client_messages: true } };
    writeFileSync(join(path, 'config.json'), JSON.stringify({ app_manager: { array: { apps: [app('sockudo-1', { policy }), app('sockudo-2')] } } }));
    writeFileSync(join(path, '.env'), 'APP_NAME=My App\nREVERB_APP_ID=reverb\nREVERB_APP_KEY="reverb-key"\nREVERB_APP_SECRET=reverb-secret\n');
    // What the databases' own clients would print.
    const databases = `row() { printf '%s\\t%s-key\\t%s-secret\\t%s\\n' "$1" "$1" "$1" true; }
      mysql() { row mysql; }
      psql() { row "psql-$4"; }`;
    const script = [
      databases,
      ...['--name Shop', 'import_apps()', 'SOKETI_DEFAULT', 'soketi.json', 'mysql', 'psql -At -F $\'\\t\' soketi'].map(sh),
      ...['REVERB_APP', 'SOCKUDO_DEFAULT', 'psql -At -F $\'\\t\' sockudo', 'config.json'].map(sh),
    ].join('\n');
    const env = { ...surroundings, FANFARE_DATA_DIR: path, SOCKUDO_DEFAULT_APP_ID: 'env', SOCKUDO_DEFAULT_APP_KEY: 'env-key', SOCKUDO_DEFAULT_APP_SECRET: 'env-secret' };
    execFileSync('bash', ['-e'], { input: script, env, cwd: path, stdio: 'pipe' });
    const list = JSON.parse(execFileSync('fanfare', ['app', 'list', '--json'], { env, cwd: path, encoding: 'utf8', stdio: 'pipe' })).items;
    const imported = list.map(({ id, settings }) => `${id} ${settings.client_events}`).sort();
    const expected = ['1234567 false', 'app-id false', 'env false', 'mysql true', 'psql-soketi true', 'psql-sockudo true', 'reverb true'];
    assert.deepEqual(imported, [...expected, 'sockudo-1 true', 'sockudo-2 false', 'soketi-1 true', 'soketi-2 false'].sort());
    const keys = JSON.parse(execFileSync('fanfare', ['key', 'list', '--app', 'reverb', '--json'], { env, cwd: path, encoding: 'utf8', stdio: 'pipe' })).items;
    assert.deepEqual(keys.map(({ key }) => key), ['reverb-key']);
  });

  test('what checks that it works does, and pusher-js connects as it is shown', async () => {
    const js = page.find(({ code }) => code.startsWith('const pusher = new Pusher(')).code;
    const local = js.replaceAll('realtime.example.com', '127.0.0.1').replaceAll('443', server.port).replace('forceTLS: true', 'forceTLS: false');
    const { default: Pusher } = await import('pusher-js');
    const pusher = server.track(new Function('Pusher', `${local}; return pusher;`)(Pusher));
    const channel = await subscribe(pusher, 'room-1');
    const message = next(channel, 'message');
    const script = sh('/healthz').replaceAll('https://realtime.example.com', server.url);
    execFileSync('bash', ['-e'], { input: script, env: surroundings, stdio: 'pipe' });
    assert.deepEqual(await message, { text: 'hello' });
  });

  test('one event is published to both servers, and the first decides', async () => {
    const js = pageText('move-from-pusher.md').match(/   const servers = .*?\n   }\n/s)[0].replace('export ', '');
    const both = (...servers) => new Function('oldServer', 'newServer', 'console', `${js}; return trigger;`)(...servers, { error() {} });
    const [right, wrong] = [server.sdk(), server.sdk({ secret: 'wrong' })];
    const channel = await subscribe(server.client(), 'room-1');
    const message = next(channel, 'both');
    assert.equal((await both(right, wrong)('room-1', 'both', 'x')).status, 200);
    assert.equal(await message, 'x');
    await assert.rejects(both(wrong, right)('room-1', 'both', 'x'), { status: 401 });
    server.disconnectClients();
  });
});
