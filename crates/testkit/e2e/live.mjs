// Reads an app's live events from the admin API, as the dashboard does.
import { request } from 'node:http';

/** A promise with what settles it. */
function promised() {
  const settle = {};
  const promise = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }));
  return { promise, ...settle };
}

/** Opens a console. `events` grows as they come; `ended` is fulfilled when the server ends the answer. */
export function watch(server, token, query = {}, { app = server.app.id } = {}) {
  const url = new URL(`${server.url}/api/v1/apps/${app}/events/live`);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const events = [];
  const [opened, ended] = [promised(), promised()];
  const asked = request(url, { headers: { authorization: `Bearer ${token}` }, agent: false });
  asked.once('error', (error) => {
    opened.reject(error);
    ended.resolve();
  });
  asked.once('response', (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part) => {
      text += part;
      const whole = text.split('\n\n');
      text = whole.pop();
      for (const event of whole) {
        const name = /^event: (.*)$/m.exec(event)?.[1];
        if (name) events.push({ name, data: JSON.parse(/^data: (.*)$/m.exec(event)[1]) });
      }
    });
    for (const end of ['end', 'error', 'close']) response.once(end, () => ended.resolve());
    opened.resolve(response);
  });
  asked.end();
  const of = (name) => events.filter((event) => event.name === name).map(({ data }) => data);
  return {
    events,
    opened: opened.promise,
    ended: ended.promise,
    hello: () => of('hello')[0],
    lines: (kind) => of('line').filter((line) => !kind || line.kind === kind),
    more: () => of('more').reduce((sum, { count }) => sum + count, 0),
    end: () => of('end')[0],
    pause: async () => (await opened.promise).pause(),
    resume: async () => (await opened.promise).resume(),
    close: () => asked.destroy(),
  };
}
