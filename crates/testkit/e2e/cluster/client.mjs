// A client that records what it is told, byte for byte as it came, and comes back as stock clients do.
import { EventEmitter } from 'node:events';
import { ended, now } from './history.mjs';
import { until } from './until.mjs';
import { WebSocket } from './websocket.mjs';

// As pusher-js waits after a close that does not ask it back at once.
const BACKOFF = 1000;

/**
 * `node` says to which node it connects, each time anew. `user` is who it is on presence channels; `signIn` is the user data it signs
 * in with.
 */
export class Client extends EventEmitter {
  /** Every message since the first connection, but greetings and answers to pings. */
  messages = [];
  /** Codes of the closes so far; undefined for a connection that was lost. */
  codes = [];
  #history;
  #app;
  #choose;
  #socket;
  #timer;
  #node;
  #wanted = new Set();
  #sessions = new Map();
  #leaving = false;

  constructor({ history, app, node, user, info, signIn, returns = true }) {
    super();
    this.setMaxListeners(0);
    this.#history = history;
    this.#app = app;
    this.#choose = typeof node === 'function' ? node : () => node;
    Object.assign(this, { user, info, signIn, returns });
    this.#connect();
  }

  get node() {
    return this.#node?.name;
  }

  get connected() {
    return this.socketId !== undefined;
  }

  /** Subscribes now and after every return. */
  subscribe(...channels) {
    for (const channel of channels) {
      this.#wanted.add(channel);
      if (this.connected) this.#ask(channel);
    }
    return this;
  }

  unsubscribe(channel) {
    this.#wanted.delete(channel);
    const session = this.#sessions.get(channel);
    if (session) ended(session, 'left');
    this.#sessions.delete(channel);
    this.send('pusher:unsubscribe', { channel });
  }

  send(event, data, channel) {
    this.#socket.send(JSON.stringify({ event, data, channel }));
  }

  /** The subscription that stands. */
  session(channel) {
    return this.#sessions.get(channel);
  }

  async connects() {
    await until('a client is connected', () => this.connected);
    return this;
  }

  async subscribes(channel, options) {
    this.subscribe(channel);
    return until(`${this.user ?? 'a client'} is subscribed to ${channel} at ${this.node}`, () => this.session(channel), options);
  }

  /** The first message that is so, from `since` on. */
  hears(what, matches, { since = 0, ...options } = {}) {
    const explain = () => JSON.stringify(this.messages.slice(since));
    return until(what, () => this.messages.slice(since).find(matches), { explain, ...options });
  }

  /** Goes for good: with a close frame, or without a word. It may have missed what was accepted from `wholeUntil` on. */
  leave({ silently = false, wholeUntil } = {}) {
    this.#leaving = true;
    clearTimeout(this.#timer);
    this.#sessions.forEach((session) => ended(session, 'gone', wholeUntil));
    if (silently) this.#socket?.destroy();
    else this.#socket?.close();
  }

  #connect() {
    this.#node = this.#choose();
    if (!this.#node) return this.#comeBack(100);
    this.#socket = new WebSocket(this.#node.port, `/app/${this.#app.key}?protocol=7&client=oracle&version=1`);
    this.#socket.on('text', (text) => this.#handle(JSON.parse(text)));
    this.#socket.once('close', (code) => this.#closed(code));
  }

  #closed(code) {
    const { socketId } = this;
    this.socketId = undefined;
    this.codes.push(code);
    if (socketId && !this.#leaving) {
      this.#history?.closed({ socketId, node: this.node, code, sessions: [...this.#sessions.values()] });
    }
    this.#sessions.clear();
    this.emit('closed', code);
    if (this.returns && !(code >= 4000 && code < 4100)) this.#comeBack(code >= 4200 && code < 4300 ? 0 : BACKOFF);
  }

  #comeBack(wait) {
    if (!this.#leaving) this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #ask(channel) {
    const open = !/^(private|presence)-/.test(channel);
    const data = channel.startsWith('presence-') ? { user_id: this.user, user_info: this.info } : undefined;
    this.send('pusher:subscribe', { channel, ...(open ? {} : this.#app.sdk.authorizeChannel(this.socketId, channel, data)) });
  }

  #handle(message) {
    // What was on its way when it left is no subscription any more.
    if (this.#leaving) return;
    const data = message.event.startsWith('pusher') && typeof message.data === 'string' ? JSON.parse(message.data) : message.data;
    if (message.event === 'pusher:connection_established') {
      this.socketId = data.socket_id;
      if (this.signIn) this.send('pusher:signin', this.#app.sdk.authenticateUser(this.socketId, this.signIn));
      this.#wanted.forEach((channel) => this.#ask(channel));
      return;
    }
    if (message.event === 'pusher:ping') return this.send('pusher:pong', {});
    this.messages.push({ ...message, data });
    this.#record(message, data);
    this.emit('message', message);
  }

  #record({ event, channel }, data) {
    if (event === 'pusher_internal:subscription_succeeded') {
      // Between our unsubscribing and the answer to an earlier subscription.
      if (!this.#wanted.has(channel) || !this.#history) return;
      const members = data.presence?.ids;
      const session = this.#history.subscribed({ channel, socketId: this.socketId, node: this.node, user: this.user, members });
      this.#sessions.set(channel, session);
      return;
    }
    const session = this.#sessions.get(channel);
    if (!session) return;
    if (event === 'pusher_internal:member_added') session.edges.push({ kind: 'added', id: data.user_id, at: now() });
    else if (event === 'pusher_internal:member_removed') session.edges.push({ kind: 'removed', id: data.user_id, at: now() });
    else if (event === 'event') session.events.push({ id: data, at: now() });
  }
}
