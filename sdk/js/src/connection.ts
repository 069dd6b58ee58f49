import { attempt, type Established, type Failure } from './attempt.js';
import { reconnectDelay } from './backoff.js';
import { Emitter } from './emitter.js';
import { FanfareError } from './errors.js';
import { decode, encode, reactionTo, type Frame } from './protocol.js';
import { watchSurroundings } from './surroundings.js';
import type { Settings } from './options.js';
import type { Transport, TransportFactory } from './transports/transport.js';
import { polling, streaming } from './transports/http.js';
import { websocket } from './transports/websocket.js';

/**
 * `initialized`: not asked to connect yet. `connecting`: on its way, at first or again. `connected`. `unavailable`: on its
 * way for too long. `disconnected`: it was told to, or the server refuses this client for good. `failed`: the platform
 * has no transport.
 */
export type ConnectionState = 'initialized' | 'connecting' | 'connected' | 'unavailable' | 'disconnected' | 'failed';

export interface ConnectionEvents {
  state: [change: { previous: ConnectionState; current: ConnectionState }];
  frame: [frame: Frame];
  error: [error: FanfareError];
}

const FACTORIES: TransportFactory[] = [websocket, streaming, polling];
// After so many failures, the transport that worked before is no longer tried on its own.
const FAITHFUL = 3;
// Browsers delay a WebSocket that follows failed ones, for up to 20 seconds, and requests never. After some failures requests
// therefore find out whether the server is back. Each eighth attempt has the WebSocket too, as a page may forbid requests.
const KNOCKS = 8;
// A connection that ends sooner counts as one more failure.
const STABLE = 2_000;
// How long an answer may take when there is reason to think that the connection is dead.
const PROBE = 4_000;

/** One connection at a time, again and again. */
export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = 'initialized';
  socketId: string | undefined;
  /** Why there is no connection and will be none. */
  refusal: FanfareError | undefined;

  #settings: Settings;
  #transport: Transport | undefined;
  #lastTransport: string | undefined;
  #giveUp: (() => void) | undefined;
  #ignoreSurroundings: (() => void) | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #unavailableTimer: ReturnType<typeof setTimeout> | undefined;
  #activityTimer: ReturnType<typeof setTimeout> | undefined;
  #activityTimeout = 0;
  #heardAt = 0;
  #establishedAt = 0;
  #outageBegan = 0;
  #failures = 0;
  /** The page was left and may come back. */
  #suspended = false;
  /** A fallback got through and was left, because the WebSocket may have come too early for the same server. */
  #doubted = false;

  constructor(settings: Settings) {
    super();
    this.#settings = settings;
  }

  get transport(): string | undefined {
    return this.#transport?.name;
  }

  connect(): void {
    if (this.#ignoreSurroundings) return;
    if (!this.#supported().length) {
      const message = `None of the transports ${this.#settings.transports} is supported here`;
      return this.#fail('failed', new FanfareError('unsupported', message));
    }
    this.refusal = undefined;
    this.#ignoreSurroundings = watchSurroundings({
      // What was started on the network that is no more hangs.
      online: () => this.#hurry(1),
      // The ping fails or not; waiting for the usual time would only be later.
      offline: () => this.#probe(),
      left: () => this.#suspend(),
      awake: (asleep) => this.#hurry(asleep),
    });
    this.#begin();
  }

  disconnect(): void {
    this.#end();
    this.#become('disconnected');
  }

  /** Whether it was handed to a transport; nothing is kept for later. */
  send(event: string, data: unknown, channel?: string): boolean {
    return this.#transport?.send(encode(event, data, channel)) ?? false;
  }

  report(error: FanfareError): void {
    // Nobody listens: better on the console than nowhere. What mends itself is no error to who reads there.
    if (!this.emit('error', error) && !error.retrying) console.error(error);
  }

  #supported(): TransportFactory[] {
    const { transports } = this.#settings;
    return transports.flatMap((name) => FACTORIES.filter((it) => it.name === name && it.isSupported(this.#settings)));
  }

  #begin(): void {
    this.#suspended = false;
    this.#failures = 0;
    this.#outageBegan = Date.now();
    this.#connecting();
    this.#try();
  }

  /**
   * Closes the connection until the page is back. Browsers keep the WebSocket of a page that was left open for minutes and
   * answer its pings, so the user would stay present; and they drop what arrives.
   */
  #suspend(): void {
    this.#stop();
    this.#suspended = true;
    this.#become('connecting');
  }

  #try(alone = false): void {
    const factories = this.#supported();
    const [first] = factories;
    const { fallbackDelay } = this.#settings;
    const known = this.#lastTransport;
    const worked = known === first!.name;
    const headStart = !known || worked ? fallbackDelay : fallbackDelay / 3;
    alone ||= worked && this.#failures <= FAITHFUL;
    // A host that has just come back does not answer what was sent before: a new attempt is quicker than an old one.
    const requests = factories.slice(1);
    const knock = !alone && (!known || worked) && this.#failures > FAITHFUL && this.#failures % KNOCKS && requests.length;
    const candidates = alone ? [first!, first!, ...factories] : knock ? requests : factories;
    const startedAt = Date.now();
    this.#giveUp = attempt(candidates, this.#settings, headStart, (result) => {
      this.#giveUp = undefined;
      if (!('transport' in result)) return this.#retry(result);
      const hung = Date.now() - startedAt >= headStart;
      const expected = !worked || hung || result.transport.name === known;
      if (this.#doubted || (expected && !knock)) return this.#established(result);
      // The WebSocket was refused a moment ago, and the server may have come back since.
      this.#doubted = true;
      result.transport.close();
      this.#try(true);
    });
  }

  #established({ transport, socketId, activityTimeout, handOver }: Established): void {
    clearTimeout(this.#unavailableTimer);
    this.#doubted = false;
    this.#transport = transport;
    this.#lastTransport = transport.name;
    this.#establishedAt = Date.now();
    this.#activityTimeout = Math.min(this.#settings.activityTimeout, activityTimeout);
    this.socketId = socketId;
    handOver({
      activity: () => (this.#heardAt = Date.now()),
      message: (text) => this.#receive(text),
      close: (code, reason) => this.#lost({ code, reason }),
    });
    this.#heardAt = Date.now();
    this.#checkLater(this.#activityTimeout);
    this.#become('connected');
  }

  #receive(text: string): void {
    const frame = decode(text);
    if (!frame) {
      const message = `Not a message: ${text.slice(0, 100)}`;
      this.report(new FanfareError('invalid_message', message));
      return;
    }
    if (frame.event === 'pusher:ping') this.send('pusher:pong', {});
    this.emit('frame', frame);
  }

  #lost(failure: Failure): void {
    if (Date.now() - this.#establishedAt >= STABLE) {
      this.#failures = 0;
      this.#outageBegan = Date.now();
    }
    this.#dropTransport();
    this.#connecting();
    // A listener of the new state may have called disconnect().
    if (this.#ignoreSurroundings) this.#retry(failure);
  }

  #retry({ code, reason }: Failure): void {
    const reaction = reactionTo(code);
    const { http } = this.#settings.endpoints;
    // What the server has said, its documentation explains.
    const said = `${reason || 'lost'} (${code}${code < 4000 ? '' : `, see ${http}/docs/errors#${code}`})`;
    if (reaction === 'never') {
      this.#end();
      const message = `Refused for good by ${http}: ${said}`;
      return this.#fail('disconnected', new FanfareError('connection_refused', message, { closeCode: code, reason }));
    }
    const retryIn = reconnectDelay(reaction, this.#failures++, Date.now() - this.#outageBegan, this.#settings.backoff);
    let message = `No connection to ${http}, trying again in ${Math.round(retryIn)} ms: ${said}`;
    const never = reaction === 'backoff' && !this.#establishedAt;
    if (never) {
      message += `. Check host and port; a server with${/^https/i.test(http) ? 'out TLS needs http' : ' TLS needs https'}://`;
    }
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      this.#try();
    }, retryIn);
    const error = new FanfareError('connection_lost', message, { closeCode: code, reason, retrying: true, retryIn });
    // A wrong address does not mend itself, and nobody may have thought of a listener yet.
    if (!this.emit('error', error) && never && this.#failures === 1) console.warn(message);
  }

  #fail(state: ConnectionState, error: FanfareError): void {
    this.refusal = error;
    this.#become(state);
    this.report(error);
  }

  /** There is news of network or device: the wait for the next attempt is over, and a connection must prove itself. */
  #hurry(asleep: number): void {
    if (this.#suspended) return this.#begin();
    this.#outageBegan = Date.now();
    if (this.#retryTimer !== undefined) {
      clearTimeout(this.#retryTimer);
      this.#retryTimer = undefined;
      this.#try();
    } else if (this.#giveUp && asleep) {
      this.#giveUp();
      this.#try();
    } else if (this.#transport && asleep > this.#activityTimeout + this.#settings.pongTimeout) {
      this.#lost({ code: 4201, reason: 'Asleep for too long' });
    } else {
      this.#probe();
    }
  }

  #probe(): void {
    if (this.#transport) this.#ask(Math.min(PROBE, this.#settings.pongTimeout));
  }

  #checkLater(delay: number): void {
    clearTimeout(this.#activityTimer);
    this.#activityTimer = setTimeout(() => {
      const left = this.#heardAt + this.#activityTimeout - Date.now();
      if (left > 0) this.#checkLater(left);
      else this.#ask(this.#settings.pongTimeout);
    }, delay);
  }

  #ask(patience: number): void {
    const askedAt = Date.now();
    this.#heardAt = 0;
    this.#transport!.ping();
    clearTimeout(this.#activityTimer);
    this.#activityTimer = setTimeout(() => {
      if (this.#heardAt >= askedAt) this.#checkLater(0);
      else this.#lost({ code: 4201, reason: `No answer within ${patience} ms` });
    }, patience);
  }

  #connecting(): void {
    clearTimeout(this.#unavailableTimer);
    this.#unavailableTimer = setTimeout(() => this.#become('unavailable'), this.#settings.unavailableTimeout);
    this.#become('connecting');
  }

  #dropTransport(): void {
    clearTimeout(this.#activityTimer);
    this.#transport?.close();
    this.#transport = undefined;
    this.socketId = undefined;
  }

  #stop(): void {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#unavailableTimer);
    this.#retryTimer = undefined;
    this.#giveUp?.();
    this.#giveUp = undefined;
    this.#dropTransport();
  }

  #end(): void {
    this.#ignoreSurroundings?.();
    this.#ignoreSurroundings = undefined;
    this.#stop();
  }

  #become(current: ConnectionState): void {
    const previous = this.state;
    if (previous === current) return;
    this.state = current;
    this.emit('state', { previous, current });
  }
}
