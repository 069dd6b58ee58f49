// A client of Server-Sent Events that shows what came, as it came.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { eventually } from './harness.mjs';

/** A client that shows what came: whole events, as lists of lines. */
export class Stream {
  events = [];
  comments = 0;
  #text = '';

  /** `agent` may have a connection that was used before. */
  static async open(path, { port, headers, agent }) {
    const request = http.get({ host: '127.0.0.1', port, path, headers, agent });
    const [response] = await once(request, 'response');
    return new Stream(request, response);
  }

  constructor(request, response) {
    Object.assign(this, { request, response });
    response.setEncoding('utf8').on('data', (text) => this.#take(text));
    this.ended = new Promise((resolve) => {
      response.on('end', () => resolve('whole'));
      response.on('error', () => resolve('cut'));
    });
  }

  #take(text) {
    this.#text += text;
    for (let end; (end = this.#text.indexOf('\n\n')) >= 0; this.#text = this.#text.slice(end + 2)) {
      const lines = this.#text.slice(0, end).split('\n');
      this.comments += lines.filter((line) => line.startsWith(':')).length;
      this.events.push(Object.fromEntries(lines.filter((line) => !line.startsWith(':')).map((line) => line.split(/: (.*)/s, 2))));
    }
  }

  get comment() {
    return this.#text.startsWith(':') || this.comments > 0;
  }

  /** The events of the app, without those of the protocol. */
  get published() {
    return this.events.filter(({ event }) => !event?.startsWith('pusher:'));
  }

  of(name) {
    return this.events.filter(({ event }) => event === name);
  }

  get lastId() {
    return this.events.findLast(({ id }) => id)?.id;
  }

  async subscribed(count = 1) {
    await eventually(() => assert.equal(this.of('pusher:subscription_succeeded').length, count, JSON.stringify(this.events)));
    return this;
  }

  async has(count) {
    await eventually(() => assert.equal(this.published.length, count, JSON.stringify(this.events)));
    return this.published;
  }

  close() {
    this.request.destroy();
  }
}
