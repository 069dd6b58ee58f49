// What clients and backends of other addresses notice of a stranger: how long events and new clients take, and the server's memory.
import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { handshake, message, split } from './frames.mjs';

const CLIENT = '127.0.0.2';
const BACKEND = '127.0.0.3';
const EVERY = 20;
const MEASUREMENTS = 3;

export class Others {
  #agent = new Agent({ keepAlive: true, maxSockets: 20 });

  /** With `tlsPort`, the subscribers speak TLS. */
  constructor({ port, pid, app }, { tlsPort } = {}) {
    Object.assign(this, { port, pid, app, tlsPort });
  }

  stop() {
    this.#agent.destroy();
  }

  /**
   * Measures until the p99 is below a bound, three times at most: what else the machine does spoils one measurement, and a server that
   * is slow all of them. The peak is that of all.
   */
  async measureBelow(bound, time) {
    let measured;
    for (let measurement = 0; measurement < MEASUREMENTS && !(measured?.p99 < bound); measurement += 1) {
      const before = measured?.peak ?? 0;
      measured = await this.measure(time);
      measured.peak = Math.max(measured.peak, before);
    }
    return measured;
  }

  /** Publishes, connects new clients and looks at the memory for a while, from addresses of others. */
  async measure(time) {
    const [took, connects] = [[], []];
    let peak = 0;
    const client = await this.subscriber();
    const arrived = new Map();
    client.on('event', (data) => arrived.get(data.id)?.());
    const end = performance.now() + time;
    const publishing = (async () => {
      const all = [];
      for (let id = 0; performance.now() < end; id += 1) {
        const start = performance.now();
        const seen = new Promise((resolve) => arrived.set(id, resolve));
        all.push(Promise.all([this.publish({ id, text: 'x'.repeat(5000) }), seen]).then(() => took.push(performance.now() - start)));
        await delay(EVERY);
      }
      await Promise.all(all);
    })();
    const connecting = (async () => {
      while (performance.now() < end) {
        const start = performance.now();
        const newcomer = await this.subscriber();
        connects.push(performance.now() - start);
        newcomer.destroy();
        await delay(10 * EVERY);
      }
    })();
    while (performance.now() < end) {
      peak = Math.max(peak, await this.resident());
      await delay(5 * EVERY);
    }
    await this.withTime(Promise.all([publishing, connecting]), 'all events and new clients');
    client.destroy();
    took.sort((a, b) => a - b);
    const [p50, p99] = [0.5, 0.99].map((part) => took[Math.floor(took.length * part)]);
    return { p50, p99, connects, peak };
  }

  /** A subscriber to the channel that everybody is on. Emits `event` with its data. */
  async subscriber() {
    const address = { host: '127.0.0.1', localAddress: CLIENT };
    // Nobody has signed the certificate of a test, and it is not what is tested.
    const socket = this.tlsPort
      ? tls.connect({ ...address, port: this.tlsPort, rejectUnauthorized: false })
      : connect({ ...address, port: this.port });
    const subscribed = new Promise((resolve, reject) => {
      let unread = Buffer.alloc(0);
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(`a client was closed: ${unread.toString('latin1').slice(-500)}`)));
      socket.on('data', (chunk) => {
        unread = Buffer.concat([unread, chunk]);
        if (unread[0] === 0x48) unread = unread.subarray(unread.indexOf('\r\n\r\n') + 4);
        for (let next; (next = split(unread)); unread = next.rest) {
          if (next.text.includes('subscription_succeeded')) resolve();
          if (next.text.startsWith('{"event":"e"')) socket.emit('event', JSON.parse(JSON.parse(next.text).data));
        }
      });
    });
    subscribed.catch(() => {});
    socket.write(handshake(this.app.key));
    socket.write(message('pusher:subscribe', { channel: 'news' }));
    await this.withTime(subscribed, 'a subscription');
    return socket;
  }

  async publish(data) {
    const body = JSON.stringify({ name: 'e', channel: 'news', data: JSON.stringify(data) });
    const path = `/apps/${this.app.id}/events`;
    const query =
      `auth_key=${this.app.key}&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_version=1.0` +
      `&body_md5=${createHash('md5').update(body).digest('hex')}`;
    const signature = createHmac('sha256', this.app.secret).update(`POST\n${path}\n${query}`).digest('hex');
    const options = { port: this.port, host: '127.0.0.1', localAddress: BACKEND, agent: this.#agent, method: 'POST' };
    const sent = request({ ...options, path: `${path}?${query}&auth_signature=${signature}` });
    sent.end(body);
    const [response] = await once(sent, 'response');
    response.resume();
    assert.equal(response.statusCode, 200);
    await once(response, 'end');
  }

  async withTime(promise, what) {
    const late = delay(10_000, undefined, { ref: false }).then(() => assert.fail(`no ${what} within 10 s`));
    return Promise.race([promise, late]);
  }

  async resident() {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }
}
