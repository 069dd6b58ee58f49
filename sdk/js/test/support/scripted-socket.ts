import type { WebSocketLike } from '../../src/options.js';

/** A WebSocket whose other end is the test. */
export class ScriptedSocket implements WebSocketLike {
  static all: ScriptedSocket[] = [];
  static #lastId = 0;

  /** The one that was made last. */
  static get last(): ScriptedSocket {
    return ScriptedSocket.all.at(-1)!;
  }

  readyState = 0;
  bufferedAmount = 0;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  readonly sent: { event: string; channel?: string; data?: any }[] = [];
  socketId = '';

  constructor(readonly url: string) {
    ScriptedSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
  }

  /** The server greets. */
  greet({ activityTimeout = 120 } = {}): this {
    this.readyState = 1;
    this.socketId = `1.${(ScriptedSocket.#lastId += 1)}`;
    const data = { socket_id: this.socketId, activity_timeout: activityTimeout };
    return this.receive('pusher:connection_established', data);
  }

  receive(event: string, data?: unknown, more: Record<string, unknown> = {}): this {
    this.onmessage?.({ data: JSON.stringify({ event, data: JSON.stringify(data), ...more }) });
    return this;
  }

  /** The server confirms a subscription. */
  confirm(channel: string, about: Record<string, unknown> = {}): this {
    return this.receive('pusher_internal:subscription_succeeded', about, { channel });
  }

  /** The connection ends, and not by the client's wish. */
  end(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The connection fails, as a platform reports it that sends no close event. */
  fail(message = ''): void {
    this.readyState = 0;
    this.onerror?.({ message });
  }

  sentOf(event: string): any[] {
    return this.sent.filter((frame) => frame.event === event).map(({ data }) => data);
  }
}
