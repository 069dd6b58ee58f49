// An app's backend that takes webhooks, and what its official SDK says of them.
import PusherHttp from 'pusher';
import { startHttp } from './harness.mjs';
import { until } from './cluster/until.mjs';

/** `answer(request)` says the status, or a promise of it; 200 if it says nothing. */
export async function startReceiver({ app, answer = () => 200 } = {}) {
  const receiver = new Receiver(app, answer);
  receiver.http = await startHttp((request, response) => receiver.take(request, response));
  return receiver;
}

class Receiver {
  /** Every request, in the order of arrival: { at, id, sequence, attempt, replay, headers, body, events, timeMs, status }. */
  requests = [];

  constructor(app, answer) {
    const { id, key, secret } = app;
    this.sdk = new PusherHttp({ appId: id, key, secret });
    this.answer = answer;
  }

  get url() {
    return `${this.http.url}/webhooks`;
  }

  async take(message, response) {
    let rawBody = '';
    for await (const chunk of message.setEncoding('utf8')) rawBody += chunk;
    const webhook = this.sdk.webhook({ headers: message.headers, rawBody });
    const request = {
      at: Date.now(),
      id: message.headers['fanfare-delivery'],
      sequence: Number(message.headers['fanfare-sequence']),
      attempt: Number(message.headers['fanfare-attempt']),
      replay: message.headers['fanfare-replay'] === 'true',
      headers: message.headers,
      body: rawBody,
      isValid: webhook.isValid(),
      events: JSON.parse(rawBody).events,
      timeMs: JSON.parse(rawBody).time_ms,
    };
    this.requests.push(request);
    request.status = (await this.answer(request)) ?? 200;
    response.writeHead(request.status).end();
  }

  /** The events of the requests that were taken, each delivery once, in the order of arrival. */
  get events() {
    const seen = new Set();
    return this.requests.flatMap(({ id, status, events, at, sequence, timeMs }) => {
      if (!(status >= 200 && status < 300) || seen.has(id)) return [];
      seen.add(id);
      return events.map((event) => ({ ...event, at, sequence, timeMs }));
    });
  }

  /** Waits for an event that has these values. */
  hears(wanted, options) {
    const fits = (event) => Object.entries(wanted).every(([name, value]) => event[name] === value);
    const explain = () => JSON.stringify(this.events.slice(-10));
    return until(`a webhook with ${JSON.stringify(wanted)}`, () => this.events.find(fits), { explain, ...options });
  }

  stop() {
    return this.http.stop();
  }
}
