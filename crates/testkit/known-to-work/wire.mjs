// The suites that test protocols below ours: Autobahn's for WebSockets, h2spec for HTTP/2.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort, startServer } from '../e2e/harness.mjs';
import { makeCertificate } from '../e2e/proxy.mjs';
import { NotAvailable, installPyPI2, versionOf } from './install.mjs';

const run = promisify(execFile);
const CLIENT = fileURLToPath(new URL('fuzzing_client.py', import.meta.url));
/** The longest that all cases of one path may take. */
const SUITE_TIMEOUT = 30 * 60_000;
const SIXTEEN_MIB = 16 * 1024 * 1024;
/** The default of `websocket.max_message_bytes`. */
const DEFAULT_LIMIT = 128 * 1024;

export const kind = {
  title: 'The wire',
  what: 'suite and endpoint',
  intro: `
How the server does in Autobahn's suite for WebSockets and in h2spec for HTTP/2, if you write a client.

Autobahn expects a server that echoes. Its cases and how they judge are unchanged; only what stands for an
echo differs:

- On a raw WebSocket another client sends each text back. Messages may have 16 MiB, as Autobahn's longest.
- On the other paths the error that answers a text without meaning stands for its echo. Messages may have
  128 KiB, the default.
- Engine.IO has no echo, because a text that is no packet ends its connection. Only the cases that need none
  are judged.

| column | what is counted |
|---|---|
| as required | No case has failed. |
| OK | Cases that end as the protocol requires. |
| non-strict | Cases that end in another way that Autobahn allows. |
| too large | Cases whose message is larger than \`websocket.max_message_bytes\` and is refused with 1009, as [the protocol](../protocol.md) says. They are non-strict too: Autobahn waits for an echo. |
| informational | Cases for which the protocol requires nothing. |
| not spoken | Cases that need what Fanfare doesn't speak: binary messages, which it closes with 1003, and compression (12 and 13), which Autobahn calls unimplemented. Fanfare [doesn't negotiate it](../adr/0003-no-permessage-deflate.md). |
| failed | All others. |`,
  steps: {
    conforms: { title: 'as required', needed: true },
    ok: { title: 'OK', needed: false },
    nonStrict: { title: 'non-strict', needed: false },
    tooLarge: { title: 'too large', needed: false },
    informational: { title: 'informational', needed: false },
    notSpoken: { title: 'not spoken', needed: false },
    failed: { title: 'failed', needed: false },
  },
  // Each of them keeps a core busy.
  atOnce: 2,
};

const GROUPS = ['1.*', '2.*', '3.*', '4.*', '5.*', '6.*', '7.*', '9.*', '10.*', '12.*', '13.*'];
const LATE = 'Non-strict are cases in which what follows a text is wrong: the connection ends before the echo is back. In 6.4.3 and 6.4.4 invalid UTF-8 is found at the end of a frame, not within it.';

export const rows = [
  autobahn('/app/KEY', 'pusher', ({ key }) => `/app/${key}?protocol=7`, {
    note: 'In 6.4.3 and 6.4.4 invalid UTF-8 is found at the end of a frame, not within it, which is non-strict.',
  }),
  autobahn('/ws/KEY', 'pusher', ({ key }) => `/ws/${key}`),
  autobahn('/ws/KEY?raw=CHANNEL', 'echo', ({ key }) => `/ws/${key}?raw=echo`, { note: LATE, raised: true }),
  autobahn('/socket.io/', 'engine', () => '/socket.io/?EIO=4&transport=websocket', {
    note: 'Cases that need a text to be taken are not counted: it is no packet of Engine.IO, and ends the connection.',
  }),
  { name: 'h2spec, `tls.listen`', group: 'HTTP/2', run: h2spec, test: 'http2.test.mjs', note: 'Its cases on `/healthz`. It is built from its source with Debian’s Go; `H2SPEC` names it.' },
];

function autobahn(path, how, url, { raised = false, ...row } = {}) {
  return {
    name: `Autobahn, \`${path}\``,
    group: 'WebSockets',
    run: async ({ temporary }) => {
      const { python, folder } = await installPyPI2(temporary, { autobahntestsuite: '25.10.1' });
      const env = { FANFARE_CONNECTIONS_MESSAGES_PER_SECOND: '0' };
      const settings = { client_event_channels: '*', 'limits.client_events_per_second': '100000' };
      if (raised) {
        Object.assign(env, { FANFARE_WEBSOCKET_MAX_MESSAGE_BYTES: String(SIXTEEN_MIB), FANFARE_OUTBOX_MAX_BYTES: String(4 * SIXTEEN_MIB) });
        settings['limits.client_event_data'] = String(SIXTEEN_MIB);
      }
      const server = await startServer({ env, settings });
      const results = await mkdtemp(join(tmpdir(), 'fanfare-autobahn-'));
      try {
        const out = join(results, 'cases.json');
        const args = ['-B', CLIENT, folder, `ws://127.0.0.1:${server.port}${url(server.app)}`, how, out, ...GROUPS];
        await run(python, args, { timeout: SUITE_TIMEOUT, maxBuffer: 1 << 28 });
        return counted(JSON.parse(await readFile(out, 'utf8')), { how, limit: raised ? SIXTEEN_MIB : DEFAULT_LIMIT });
      } finally {
        await rm(results, { recursive: true });
        await server.stop();
      }
    },
    ...row,
  };
}

/** How a case has ended, in the words of the page. `limit` is the longest message that the server takes. */
function outcome({ behavior, close, code, kinds, texts, longest }, { how, limit }) {
  if (behavior === 'UNIMPLEMENTED') return 'notSpoken';
  if (behavior === 'INFORMATIONAL') return 'informational';
  const good = ['OK', 'INFORMATIONAL'].includes(close);
  if (behavior === 'OK' && good) return 'ok';
  if (behavior === 'NON-STRICT' && good) return 'nonStrict';
  if (longest > limit && code === 1009) return 'tooLarge';
  if (how === 'engine' && (texts > 0 || kinds.includes('binary'))) return 'left out';
  return kinds.includes('binary') && code === 1003 ? 'notSpoken' : 'failed';
}

function counted({ version, cases }, server) {
  const of = {};
  for (const one of cases) (of[outcome(one, server)] ??= []).push(one);
  const ids = (name) => (of[name] ?? []).map(({ id }) => id);
  const shown = (name, few = 12) => (ids(name).length > 0 && ids(name).length <= few ? `${ids(name).length}: ${ids(name).join(', ')}` : String(ids(name).length));
  return {
    version,
    steps: {
      conforms: ids('failed').length === 0 ? 'yes' : 'no',
      ok: shown('ok', 0),
      nonStrict: shown('nonStrict'),
      tooLarge: shown('tooLarge', 0),
      informational: shown('informational'),
      notSpoken: notSpoken(of.notSpoken ?? []),
      failed: shown('failed', 50),
    },
  };
}

/** Compressed messages are never sent: such a case ends once the server has not agreed. */
function notSpoken(cases) {
  const compressed = cases.filter(({ behavior }) => behavior === 'UNIMPLEMENTED').length;
  return `${cases.length}: ${cases.length - compressed} binary, ${compressed} compressed`;
}

async function h2spec() {
  const program = process.env.H2SPEC ?? '/usr/local/bin/h2spec';
  if (!existsSync(program)) throw new NotAvailable('there is no h2spec: build it from its source, and set H2SPEC');
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-h2spec-'));
  await makeCertificate(folder);
  const port = await freePort();
  const env = {
    FANFARE_TLS_CERTIFICATE: join(folder, 'fullchain.pem'),
    FANFARE_TLS_KEY: join(folder, 'privkey.pem'),
    FANFARE_TLS_LISTEN: `127.0.0.1:${port}`,
  };
  const server = await startServer({ env });
  try {
    const args = ['-h', '127.0.0.1', '-p', String(port), '-t', '-k', '-o', '5', '-P', '/healthz', '-j', join(folder, 'report.xml')];
    // It ends with 1 if a case has failed, which the report says as well.
    await run(program, args, { timeout: SUITE_TIMEOUT }).catch(() => {});
    const report = readFileSync(join(folder, 'report.xml'), 'utf8');
    const sum = (name) => [...report.matchAll(new RegExp(` ${name}="(\\d+)"`, 'g'))].reduce((total, [, count]) => total + Number(count), 0);
    const [tests, skipped, failed] = [sum('tests'), sum('skipped'), sum('failures') + sum('errors')];
    const version = process.env.H2SPEC_VERSION ?? (await versionOf(program, ['--version'], /Version: (\S+)/));
    const ok = tests - skipped - failed;
    return {
      version,
      steps: { conforms: failed === 0 && ok > 0 ? 'yes' : 'no', ok: String(ok), nonStrict: '0', tooLarge: '0', informational: '0', notSpoken: `${skipped}, skipped`, failed: String(failed) },
    };
  } finally {
    await rm(folder, { recursive: true });
    await server.stop();
  }
}
