// What an app's backend does: signed requests to whichever node it likes, each publish recorded with what became of it.
import { Agent, request } from 'node:http';
import { now } from './history.mjs';

const TIMEOUT = 15_000;
const MAYBE = /may have been delivered/;

export class Backend {
  #agent = new Agent({ keepAlive: true, maxSockets: 50 });

  constructor(app, history) {
    this.app = app;
    this.history = history;
  }

  /** One event on one channel, whose data is its id. */
  async publish(node, channel, id, { except, key } = {}) {
    const publish = { id, channel, node: node.name, except, sentAt: now() };
    const body = { name: 'event', channels: [channel], data: id, socket_id: except };
    const headers = key === undefined ? {} : { 'idempotency-key': key };
    const answer = await this.send(node, 'POST', '/events', { body, headers });
    Object.assign(publish, { answeredAt: now(), status: answer.status, outcome: outcomeOf(answer), retryAfter: answer.retryAfter });
    publish.took = publish.answeredAt - publish.sentAt;
    publish.text = answer.text;
    this.history.publishes.push(publish);
    return publish;
  }

  async get(node, path, params) {
    const { status, text } = await this.send(node, 'GET', path, { params });
    if (status !== 200) throw new Error(`GET ${path} at ${node.name}: ${status} ${text}`);
    return JSON.parse(text);
  }

  /** Never fails: status 0 is no answer, and `reached` says whether the request can have arrived. */
  send(node, method, path, { params, body, headers = {} } = {}) {
    const { id, sdk } = this.app;
    const text = body && JSON.stringify(body);
    const fullPath = `/apps/${id}${path}`;
    // The SDK's own signature, which covers the body as the SDK would write it.
    const query = sdk.createSignedQueryString({ method, path: fullPath, params, body: text });
    return new Promise((resolve) => {
      let reached = false;
      const options = {
        host: '127.0.0.1',
        port: node.port,
        method,
        path: `${fullPath}?${query}`,
        agent: this.#agent,
        headers: { ...(text ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } : {}), ...headers },
      };
      const sent = request(options, async (response) => {
        let answer = '';
        response.on('error', () => {});
        response.setEncoding('utf8').on('data', (chunk) => (answer += chunk));
        response.once('close', () => {
          const status = response.complete ? response.statusCode : 0;
          resolve({ status, text: answer, retryAfter: response.headers['retry-after'], reached: true });
        });
      });
      sent.once('socket', (socket) => {
        if (socket.connecting) socket.once('connect', () => (reached = true));
        else reached = true;
      });
      sent.setTimeout(TIMEOUT, () => sent.destroy(new Error('no answer in time')));
      sent.once('error', (error) => resolve({ status: 0, text: error.message, reached }));
      sent.end(text);
    });
  }

  stop() {
    this.#agent.destroy();
  }
}

function outcomeOf({ status, text, reached }) {
  if (status === 200) return 'accepted';
  if (status === 0) return reached ? 'unknown' : 'refused';
  return status === 503 && MAYBE.test(text) ? 'unknown' : 'refused';
}
