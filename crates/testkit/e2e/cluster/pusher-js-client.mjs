// Unmodified pusher-js, recorded in the same history.
import PusherJs from 'pusher-js';
import { errorCode } from '../harness.mjs';
import { ended, now } from './history.mjs';

export class PusherJsClient {
  /** Codes that it was sent away with. */
  codes = [];
  #history;
  #sessions = new Map();
  #sockets = new Set();
  #code;
  #leaving = false;

  constructor({ history, app, node, user }) {
    this.#history = history;
    Object.assign(this, { node: node.name, user });
    const customHandler = ({ socketId, channelName }, callback) => {
      const data = channelName.startsWith('presence-') ? { user_id: user } : undefined;
      callback(null, app.sdk.authorizeChannel(socketId, channelName, data));
    };
    this.pusher = new PusherJs(app.key, {
      cluster: 'x',
      wsHost: '127.0.0.1',
      wsPort: node.port,
      forceTLS: false,
      enabledTransports: ['ws'],
      channelAuthorization: { customHandler },
    });
    const { connection } = this.pusher;
    connection.bind('connected', () => {
      this.#code = undefined;
      this.#sockets.add(connection.connection.transport.socket);
    });
    connection.bind('error', (error) => (this.#code = errorCode(error) ?? this.#code));
    connection.bind('state_change', ({ previous }) => previous === 'connected' && this.#closed());
  }

  get connected() {
    return this.pusher.connection.state === 'connected';
  }

  subscribe(...names) {
    for (const name of names) this.pusher.subscribe(name).bind_global((event, data) => this.#record(name, event, data));
    return this;
  }

  session(channel) {
    return this.#sessions.get(channel);
  }

  unsubscribe(channel) {
    const session = this.#sessions.get(channel);
    if (session) ended(session, 'left');
    this.#sessions.delete(channel);
    this.pusher.unsubscribe(channel);
  }

  leave({ wholeUntil } = {}) {
    this.#leaving = true;
    this.#sessions.forEach((session) => ended(session, 'gone', wholeUntil));
    this.#sessions.clear();
    this.pusher.disconnect();
    // In Node, pusher-js starts a timer of 30 s for a socket that the server has closed already, and the process would wait for it.
    this.#sockets.forEach((socket) => socket._closeTimer?.unref());
  }

  #closed() {
    const sessions = [...this.#sessions.values()];
    if (this.#code !== undefined) this.codes.push(this.#code);
    if (sessions.length > 0) {
      this.#history.closed({ socketId: sessions[0].socketId, node: this.node, code: this.#code, sessions });
    }
    this.#sessions.clear();
  }

  #record(channel, event, data) {
    // What was on its way when it left is no subscription any more.
    if (this.#leaving) return;
    if (event === 'pusher:subscription_succeeded') {
      const members = channel.startsWith('presence-') ? Object.keys(data.members) : undefined;
      const { socket_id: socketId } = this.pusher.connection;
      this.#sessions.set(channel, this.#history.subscribed({ channel, socketId, node: this.node, user: this.user, members }));
      return;
    }
    const session = this.#sessions.get(channel);
    if (!session) return;
    if (event === 'pusher:member_added') session.edges.push({ kind: 'added', id: data.id, at: now() });
    else if (event === 'pusher:member_removed') session.edges.push({ kind: 'removed', id: data.id, at: now() });
    else if (event === 'event') session.events.push({ id: data, at: now() });
  }
}
