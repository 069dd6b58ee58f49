// A server that keeps a history, for tests of what comes after a lost connection. It checks no signatures.
import { once } from 'node:events';
import { WebSocketServer } from 'ws';

export async function startFakeServer() {
  const server = new FakeServer();
  await once(server.sockets, 'listening');
  return server;
}

class FakeServer {
  sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  /** What clients sent when they subscribed, in order. */
  subscribes = [];
  #connections = new Map();
  #history = new Map();
  #epoch = 1;
  #lastId = 0;

  constructor() {
    this.sockets.on('connection', (socket) => this.#accept(socket));
  }

  get port() {
    return this.sockets.address().port;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** As a backend would; `socketId` is who is left out. */
  publish(channel, event, data, { socketId, userId } = {}) {
    const entries = this.#entries(channel);
    const entry = { offset: entries.length + 1, event, channel, data: JSON.stringify(data), socketId, userId };
    entries.push(entry);
    for (const connection of this.#connections.values()) {
      if (connection.channels.has(channel) && connection.id !== socketId) this.#deliver(connection, entry);
    }
  }

  /** Ends every connection without a word, as a network does. */
  cut() {
    for (const { socket } of this.#connections.values()) socket.terminate();
    this.#connections.clear();
  }

  /** Closes every connection with a code. */
  close(code, reason = '') {
    for (const { socket } of this.#connections.values()) socket.close(code, reason);
    this.#connections.clear();
  }

  /** No position given so far is good any more. */
  forget() {
    this.#epoch += 1;
    this.#history.clear();
  }

  get connectionCount() {
    return this.#connections.size;
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.sockets.close(resolve));
  }

  #accept(socket) {
    const connection = { id: `${(this.#lastId += 1)}.${this.#lastId}`, socket, channels: new Map() };
    this.#connections.set(connection.id, connection);
    socket.on('close', () => this.#leave(connection));
    socket.on('message', (text) => this.#receive(connection, JSON.parse(text)));
    const data = JSON.stringify({ socket_id: connection.id, activity_timeout: 120 });
    socket.send(JSON.stringify({ event: 'pusher:connection_established', data }));
  }

  #receive(connection, { event, data, channel }) {
    if (event === 'pusher:ping') this.#send(connection, { event: 'pusher:pong', data: {} });
    if (event === 'pusher:subscribe') this.#subscribe(connection, data);
    if (event === 'pusher:unsubscribe') connection.channels.delete(data.channel);
    if (event.startsWith('client-')) this.publish(channel, event, data, { socketId: connection.id });
    if (event === 'pusher:signin') {
      const text = JSON.stringify({ user_data: data.user_data });
      this.#send(connection, { event: 'pusher:signin_success', data: text });
    }
  }

  #subscribe(connection, { channel, recover, rewind, channel_data: member }) {
    this.subscribes.push({ channel, recover, rewind });
    const entries = this.#entries(channel);
    const about = {};
    let missed = [];
    if (recover) about.position = this.#position(entries.length);
    if (recover?.position) {
      const [epoch, offset] = recover.position.split(':').map(Number);
      about.recovered = epoch === this.#epoch;
      if (about.recovered) missed = entries.slice(offset).filter((entry) => entry.socketId !== recover.socket_id);
      else about.reason = 'expired';
      // Who is cut off before the first missed event still misses it.
      if (missed.length) about.position = recover.position;
    } else if (rewind) {
      missed = entries.slice(-rewind);
    }
    connection.channels.set(channel, { recover, member: member && JSON.parse(member) });
    if (channel.startsWith('presence-')) {
      const members = [...this.#connections.values()].map((it) => it.channels.get(channel)?.member).filter(Boolean);
      const hash = Object.fromEntries(members.map((it) => [it.user_id, it.user_info]));
      about.presence = { ids: Object.keys(hash), hash, count: Object.keys(hash).length };
    }
    const name = 'pusher_internal:subscription_succeeded';
    this.#send(connection, { event: name, channel, data: JSON.stringify(about) });
    missed.forEach((entry, n) => {
      // A position is behind what was left out as well: the next time nobody would know that it was.
      const behind = missed[n + 1] ? missed[n + 1].offset - 1 : entries.length;
      this.#deliver(connection, entry, behind);
    });
  }

  #deliver(connection, { offset, event, channel, data, userId }, behind = offset) {
    const asked = connection.channels.get(channel).recover;
    const position = asked ? this.#position(behind) : undefined;
    this.#send(connection, { event, channel, data, user_id: userId, position });
  }

  #position(offset) {
    return `${this.#epoch}:${offset}`;
  }

  #send({ socket }, frame) {
    socket.send(JSON.stringify(frame));
  }

  #leave(connection) {
    this.#connections.delete(connection.id);
  }

  #entries(channel) {
    if (!this.#history.has(channel)) this.#history.set(channel, []);
    return this.#history.get(channel);
  }
}
