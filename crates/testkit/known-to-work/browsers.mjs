// Browsers, and what becomes of a page's events when they save power or lose their network.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { away, clientRow, connect, opened } from './client-row.mjs';
import { NotAvailable, chromiumVersion, versionOf } from './install.mjs';

/** Time between two events while the page is away, in milliseconds: all of them fit into the channel's history. */
const TICK = 1000;

/** What the page goes through, by the commands of programs/browser.mjs, for how much of the idle time. */
const AWAY = {
  frozen: ['freeze', 'resume', 1],
  asleep: ['sleep', 'wake', 2 / 3],
  offline: ['offline', 'online', 0.2],
};

export const kind = {
  title: 'Browsers and their power saving',
  what: 'browser and client',
  intro: `
What a page has missed after its browser froze it, the laptop slept or the network was away.

Browser and server have their defaults, and histories are in Redis. An event is published every second.
Chromium and Firefox are headless. WebKit is WebKitGTK's, which has Safari's engine and not its power saving.

| column | what is tried |
|---|---|
| connects | It subscribes to a public, a private and a presence channel, or to the first two. |
| frozen 300 s | The page is frozen for five minutes: none of its code runs. |
| asleep 200 s | The whole browser stands still for 200 s, as on a machine that sleeps. The server hears nothing meanwhile, and closes the connection. |
| offline 60 s | The browser is offline for a minute, as its developer tools have it. Pages are told so and requests fail, but open connections may stay. |

"Not offered" means that a test can't make the browser do so. Firefox and WebKit freeze no page on request, and
WebKit's driver can't take the network away.

"Yes" says after what time events of all channels arrive again, and on which connection. "Missed" counts
events of the channel with a [history](../history.md) that never arrived. Clients that ask for them must
miss none.`,
  steps: {
    connect: { title: 'connects', needed: true },
    frozen: { title: 'frozen 300 s', needed: true },
    asleep: { title: 'asleep 200 s', needed: true },
    offline: { title: 'offline 60 s', needed: true },
  },
  // A browser is several processes.
  atOnce: 6,
};

const RECOVER = new URL('../../../sdk/js/dist/es/recover.js', import.meta.url);
const PUSHER_JS = { 'pusher-js': '8.6.0' };
const AGAIN = 'The program connects again when it is told of the end.';

/** What pages use, with what differs from a row without a client. */
const PAGES = [
  ['pusher-js 8.6.0', { npm: PUSHER_JS, options: { library: 'pusher-js' } }],
  ['pusher-js 8.6.0 with recover()', { npm: PUSHER_JS, recovers: true, options: { library: 'pusher-js', recover: RECOVER.href } }],
  ['pusher-js 8.6.0 (worker)', { npm: PUSHER_JS, options: { library: 'pusher-js in a worker' } }],
  ['@fanfare/client', { recovers: true, options: { library: '@fanfare/client' } }],
  ['WebSocket', { recovers: true, channels: ['public', 'private'], options: { library: 'WebSocket' }, note: AGAIN }],
  ['EventSource', { recovers: true, channels: ['public', 'private'], options: { library: 'EventSource' } }],
];

/** The steps of a browser that can go away in the ways that are named. */
const plan = (...ways) => [
  ['connect', connect],
  ...Object.entries(AWAY).map(([step, way]) => [step, async (run) => (ways.includes(step) ? goAway(run, step, way) : { [step]: 'not offered' })]),
];

const BROWSERS = {
  Chromium: { here: chromiumVersion, plan: plan('frozen', 'asleep', 'offline') },
  Firefox: {
    npm: { 'puppeteer-core': '24.43.1' },
    debian: ['firefox-esr', 'libvpx7'],
    env: ({ root }) => ({ FIREFOX: join(root, 'usr/lib/firefox-esr') }),
    options: { browser: 'firefox' },
    plan: plan('asleep', 'offline'),
  },
  WebKit: {
    async here() {
      if (!existsSync('/usr/bin/Xvfb')) throw new NotAvailable('xvfb is not installed');
      return versionOf('dpkg-query', ['-W', '-f', '${Version}', 'webkit2gtk-driver'], /^([\d.]+)/);
    },
    options: { browser: 'webkit' },
    plan: plan('asleep'),
  },
};

export const rows = Object.entries(BROWSERS).flatMap(([browser, how]) =>
  PAGES.map(([name, what]) =>
    clientRow({
      name: `${browser}, ${name}`,
      group: browser,
      program: 'browser.mjs',
      ...how,
      ...what,
      npm: { ...how.npm, ...what.npm },
      options: { ...how.options, ...what.options },
    }),
  ),
);

async function goAway(run, step, [leave, comeBack, share]) {
  const before = await opened(run.server);
  const { outcome, recovery } = await away(
    run,
    async () => {
      await run.client.tell(leave);
      await delay(run.idle * share * 1000);
      const back = performance.now();
      await run.client.tell(comeBack);
      return back;
    },
    TICK,
  );
  const which = (await opened(run.server)) > before ? 'on a new connection' : 'on the same connection';
  if (outcome.startsWith('no') || recovery.startsWith('no:')) return { [step]: [outcome, recovery].find((said) => said.startsWith('no')) };
  const missed = /missed ([1-9]\d*)/.exec(recovery)?.[1];
  return { [step]: `${outcome}, ${which}${missed ? `, missed ${missed}` : ''}` };
}
