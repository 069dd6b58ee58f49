import type { ConnectionState } from '../connection.js';
import type { FanfareError } from '../errors.js';
import type { Fanfare } from '../client.js';
import { Dispatcher } from './dispatcher.js';

/** The connection manager of pusher-js. */
export class Connection extends Dispatcher {
  state: ConnectionState = 'initialized';
  socket_id: string | undefined;

  #core: Fanfare;

  /** @internal */
  constructor(core: Fanfare) {
    super();
    this.#core = core;
  }

  connect(): void {
    this.#core.connect();
  }

  disconnect(): void {
    this.#core.disconnect();
  }

  send_event(event: string, data: unknown, channel?: string): boolean {
    return this.#core.connection.send(event, data, channel);
  }

  /** `websocket`, `streaming` or `polling`. Not in pusher-js. */
  get transport(): string | undefined {
    return this.#core.transport;
  }

  /** @internal */
  become(change: { previous: ConnectionState; current: ConnectionState }): void {
    this.state = change.current;
    const { socketId } = this.#core;
    if (socketId !== undefined) this.socket_id = socketId;
    this.emit('state_change', change);
    this.emit(change.current, change.current === 'connected' ? { socket_id: socketId } : undefined);
  }

  /** @internal */
  failed({ closeCode: code, reason, message: whole, retryIn }: FanfareError): void {
    // If the server sent no reason, the message with the address says more than the platform's reason.
    const message = code && code >= 4000 ? reason : whole;
    if (code && code !== 1000 && code !== 1001) {
      this.emit('error', { type: 'WebSocketError', error: { type: 'PusherError', data: { code, message } } });
    }
    if (retryIn !== undefined) this.emit('connecting_in', Math.round(retryIn / 1000));
  }
}
