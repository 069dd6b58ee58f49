// Writes what `fanfare top` shows of two nodes and three apps, one of which publishes too fast, to the SVG that is named. Run by
// scripts/top-screenshot.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import PusherHttp from 'pusher';
import PusherJs from 'pusher-js';
import { removeFolder, temporaryFolder } from './cluster/processes.mjs';
import { startCluster } from './cluster/topology.mjs';
import { connected, subscribe } from './harness.mjs';
import { dashboardColours, escape } from './pictures.mjs';

const run = promisify(execFile);
const [file] = process.argv.slice(2);
const HOST = '127.0.0.1';
const APPS = [
  { id: 'shop', clients: 60, channels: 6, perSecond: 40 },
  { id: 'chat', clients: 25, channels: 4, perSecond: 12 },
  { id: 'sensors', clients: 10, channels: 2, perSecond: 120, settings: ['--setting', 'limits.backend_events_per_second=40'] },
];
/** Rates are those of the last seconds. */
const SETTLED = 8_000;

const cleanups = [];
try {
  await writeFile(file, await picture(await look()));
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}

async function look() {
  const cluster = await startCluster({ nodes: 2, onPostgres: false });
  cleanups.push(() => cluster.stop());
  for (const { id, settings = [] } of APPS) {
    await cluster.command('app', 'create', '--name', id, '--id', id, '--key', `key-${id}`, '--secret', `secret-${id}`, ...settings);
  }
  const { secret } = JSON.parse(await cluster.command('token', 'create', '--name', 'top', '--role', 'metrics', '--json'));
  await delay(1_500);
  await Promise.all(APPS.map((app) => bringClients(app, cluster.nodes)));
  APPS.forEach((app) => startPublishing(app, cluster.nodes));
  await delay(SETTLED);

  const folder = await temporaryFolder('top');
  cleanups.push(() => removeFolder(folder));
  const token = join(folder, 'token');
  await writeFile(token, secret);
  const servers = cluster.nodes.flatMap(({ port }) => ['--server', `http://${HOST}:${port}`]);
  const { stdout } = await run(process.env.FANFARE_BIN, ['top', '--once', ...servers, '--token-file', token], { cwd: folder });
  return stdout;
}

async function bringClients({ id, clients, channels }, nodes) {
  await Promise.all(Array.from({ length: clients }, async (_, at) => {
    const client = new PusherJs(`key-${id}`, {
      cluster: 'x', wsHost: HOST, wsPort: nodes[at % nodes.length].port, forceTLS: false, enabledTransports: ['ws'],
    });
    cleanups.push(() => client.disconnect());
    await connected(client);
    await subscribe(client, `channel-${at % channels}`);
  }));
}

function startPublishing({ id, channels, perSecond }, nodes) {
  const sdks = nodes.map(({ port }) => new PusherHttp({ appId: id, key: `key-${id}`, secret: `secret-${id}`, host: HOST, port, useTLS: false }));
  const began = Date.now();
  let sent = 0;
  const timer = setInterval(() => {
    // A busy machine calls this late.
    for (const due = ((Date.now() - began) / 1_000) * perSecond; sent < due; sent += 1) {
      // What is over the rate is refused.
      sdks[sent % sdks.length].trigger(`channel-${sent % channels}`, 'event', { number: sent, text: 'x'.repeat(200) }).catch(() => {});
    }
  }, 20);
  cleanups.push(() => clearInterval(timer));
}

/** A terminal's text as SVG: any font of fixed width keeps its columns. */
async function picture(text) {
  const colours = await dashboardColours();
  const lines = text.trimEnd().split('\n');
  const [advance, height, margin] = [7.3, 18, 16];
  const width = Math.ceil(Math.max(...lines.map((line) => line.length)) * advance) + 2 * margin;
  const rules = (scheme) => {
    const of = (name) => colours.get(name)[scheme];
    return `rect{fill:${of('--bg')};stroke:${of('--line')}}text{fill:${of('--text')}}.head{fill:${of('--dim')}}.warn{fill:${of('--warn')}}`;
  };
  const kind = (line) => (/^[A-Z]+  /.test(line) ? ' class="head"' : line.startsWith('!') ? ' class="warn"' : '');
  const total = lines.length * height + 2 * margin;
  const texts = lines.map((line, at) => {
    const y = margin + at * height + 13;
    return line && `<text x="${margin}" y="${y}" xml:space="preserve"${kind(line)}>${escape(line)}</text>\n`;
  });
  const font = 'text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" width="${width}" height="${total}" role="img">
<title>fanfare top with two nodes and three apps</title>
<style>${font}${rules(0)}@media(prefers-color-scheme:dark){${rules(1)}}</style>
<rect x=".5" y=".5" width="${width - 1}" height="${total - 1}" rx="10"/>
${texts.join('')}</svg>
`;
}
