// Browsers, and what becomes of a page's events when they save power or lose their network.
import { setTimeout as delay } from 'node:timers/promises';
import { away, clientRow, connect, opened } from './client-row.mjs';
import { chromiumVersion } from './install.mjs';

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
  intro: `
A page in headless Chromium with its defaults, on a server with its defaults, whose histories are in
Redis. Meanwhile an event is published every second. Browsers freeze pages that nobody
looks at, laptops and phones sleep, and networks are away.

| column | what is tried |
| --- | --- |
| connects | It subscribes to a public, a private and a presence channel, or to the first two. |
| frozen 300 s | The page is frozen for five minutes: none of its code runs. |
| asleep 200 s | The whole browser stands still for 200 s, as on a machine that sleeps. The server hears nothing meanwhile, and closes the connection. |
| offline 60 s | The browser has no network for a minute. |

After each, "yes" says when the events of all channels arrive again, on which connection, and how many
of the channel with a [history](../history.md) never did. Clients that can ask for them must miss none.`,
  steps: {
    connect: { title: 'connects', needed: true },
    frozen: { title: 'frozen 300 s', needed: true },
    asleep: { title: 'asleep 200 s', needed: true },
    offline: { title: 'offline 60 s', needed: true },
  },
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

const STEPS = Object.entries(AWAY).map(([step, way]) => [step, (run) => goAway(run, step, way)]);

export const rows = PAGES.map(([name, more]) =>
  clientRow({
    name: `Chromium, ${name}`,
    program: 'browser.mjs',
    here: chromiumVersion,
    plan: [['connect', connect], ...STEPS],
    ...more,
  }),
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
