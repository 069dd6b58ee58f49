// A stream of docs/any-client.md through a library of JavaScript, which TARGET names. A stream that has ended for good is opened again with
// the last id, as the page says.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const { stream: url, library, options } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES ?? process.cwd(), 'package.json'));
const CLOSED = 2;

/** Libraries with the interface of a browser's EventSource. */
const LIKE_BROWSERS = {
  eventsource: () => load('eventsource').EventSource ?? load('eventsource'),
  'event-source-polyfill': () => load('event-source-polyfill').EventSourcePolyfill,
  'extended-eventsource': () => load('extended-eventsource').EventSource,
  'launchdarkly-eventsource': () => load('launchdarkly-eventsource').EventSource,
  'reconnecting-eventsource'() {
    globalThis.EventSource = load('eventsource').EventSource;
    const loaded = load('reconnecting-eventsource');
    return loaded.default ?? loaded;
  },
  undici: () => load('undici').EventSource,
  runtime: () => globalThis.EventSource,
};
const OTHERS = {
  'eventsource-client'() {
    load('eventsource-client').createEventSource({ url, onMessage: ({ data, id }) => got(data, id) });
  },
  async '@microsoft/fetch-event-source'() {
    // It asks a page whether it is seen.
    Object.assign(globalThis, { window: globalThis, document: { hidden: false, addEventListener() {}, removeEventListener() {} } });
    const { fetchEventSource } = load('@microsoft/fetch-event-source');
    for (;;) {
      // It goes on after an error, and returns after the end of a stream.
      await fetchEventSource(`${url}${after()}`, { onmessage: ({ data, id }) => data && got(data, id) });
      await delay(1000);
    }
  },
  async 'eventsource-parser'() {
    const { createParser } = load('eventsource-parser');
    const parser = createParser({ onEvent: ({ data, id }) => got(data, id) });
    await forEver(async () => {
      parser.reset();
      const { body } = await fetch(`${url}${after()}`);
      for await (const text of body.pipeThrough(new TextDecoderStream())) parser.feed(text);
    });
  },
  async 'fetch-event-stream'() {
    const { events } = load('fetch-event-stream');
    await forEver(async () => {
      for await (const { data, id } of events(await fetch(`${url}${after()}`))) data && got(data, id);
    });
  },
};

let lastId;
function after() {
  return lastId ? `&last_event_id=${encodeURIComponent(lastId)}` : '';
}

function got(data, id) {
  if (id) lastId = id;
  console.log(data);
}

async function forEver(stream) {
  for (;;) {
    await stream().catch((error) => console.log('error', error.message));
    await delay(1000);
  }
}

function listen() {
  const source = new (LIKE_BROWSERS[library]())(`${url}${after()}`, options);
  source.onmessage = ({ data, lastEventId }) => got(data, lastEventId);
  // Fanfare's own events have names in every stream.
  source.addEventListener('pusher:subscription_succeeded', ({ data }) => got(data));
  source.onerror = (error) => {
    console.log('error', error.message, 'state', source.readyState);
    if (source.readyState === CLOSED) setTimeout(listen, 2000);
  };
}

// eventsource 5 lets Node exit while it waits to connect again.
setInterval(() => {}, 60_000);
await (OTHERS[library] ?? listen)();
