import type { ChannelAuth } from './auth.js';
import { retryDelay } from './backoff.js';
import { takesClientEvents } from './channel-kind.js';
import type { Connection } from './connection.js';
import { Emitter, type ListenOptions, type Off } from './emitter.js';
import { FanfareError, type ErrorCode, type ErrorDetails } from './errors.js';
import type { Frame } from './protocol.js';
import type { Settings } from './options.js';

/** Event names and their data. */
export type EventMap = Record<string, any>;

export interface Metadata {
  /** On presence channels: the member who sent a client event. */
  userId?: string | undefined;
}

export type ChannelEvent<Events extends EventMap = EventMap> = {
  [Name in keyof Events & string]: { event: Name; data: Events[Name] } & Metadata;
}[keyof Events & string];

export type ChannelState = 'unsubscribed' | 'pending' | 'subscribed' | 'failed';

/** Why events may be missing: the server's words, or `no_history` where the channel keeps none. */
export type GapReason = 'expired' | 'too_old' | 'too_large' | 'off' | 'no_history' | 'undecryptable' | (string & {});

export interface Subscribed {
  /** The subscription stood before and was lost with its connection. */
  again: boolean;
  /** What was missed follows, all of it, before anything new. */
  recovered: boolean;
}

export interface ChannelEvents {
  subscribed: [details: Subscribed];
  /** What was missed follows, all of it. */
  recovered: [];
  /** Events may be missing: fetch the state anew. */
  gap: [details: { reason: GapReason }];
  error: [error: FanfareError];
  /** A cache channel has no last event. */
  cacheMiss: [];
  /** How many connections are subscribed, where the app has this switched on. */
  count: [count: number];
}

export interface SubscribeOptions {
  /** On the first subscription: the last events before it, at most so many. */
  rewind?: number | undefined;
  /** Unsubscribes when it aborts. */
  signal?: AbortSignal | undefined;
}

/** Makes the channels whose names start with `private-encrypted-`. */
export type Encryption = (name: string, host: ChannelHost) => Channel<any, any>;

/** What a channel needs of its client. */
export interface ChannelHost {
  /** @internal */
  readonly settings: Settings;
  /** @internal */
  readonly connection: Connection;
  /** @internal */
  readonly serverErrors: FanfareError[];
  readonly user: { readonly id: string | undefined };
  /** @internal */
  authorize(channel: string, signal: AbortSignal): Promise<ChannelAuth>;
  /** @internal The channel is wanted; the client has it from now on and connects. */
  adopt(channel: Channel<any, any>): void;
  /** @internal */
  forget(channel: Channel<any, any>): void;
}

const LOOP_LIMIT = 1_000;

export class Channel<Events extends EventMap = EventMap, Lifecycle extends ChannelEvents = ChannelEvents> {
  name: string;
  state: ChannelState = 'unsubscribed';
  /** Why it was refused, until it is tried again. */
  error: FanfareError | undefined;
  /** How many connections are subscribed, if the server says. */
  count: number | undefined;

  /** @internal */
  readonly host: ChannelHost;
  #events = new Emitter<Record<string, [data: any, metadata: Metadata]>>();
  #lifecycle = new Emitter<any>();
  #wanted = false;
  #attempt: AbortController | undefined;
  /** Of the attempt: the server was asked, and its answer will come. */
  #asked = false;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #rewind: number | undefined;
  #before: { position: string | undefined; socketId: string } | undefined;

  /** @internal */
  constructor(name: string, host: ChannelHost) {
    this.name = name;
    this.host = host;
    if (/[^-\w=@,.;#]/.test(name)) {
      throw this.#error('invalid_argument', `Invalid channel name ${name}: allowed are A-Z a-z 0-9 _ - = @ , . ;`);
    }
  }

  /** Calls `listener` for each event of this name. */
  bind<Name extends keyof Events & string>(
    event: Name,
    listener: (data: Events[Name], metadata: Metadata) => void,
    options?: ListenOptions,
  ): Off {
    return this.#events.on(event, listener, options);
  }

  /** Calls `listener` for each event, whatever its name. */
  bindAll(listener: (event: ChannelEvent<Events>) => void, options?: ListenOptions): Off {
    return this.#lifecycle.on('event', listener, options);
  }

  /** Calls `listener` when something happens to the channel itself. */
  on<Name extends keyof Lifecycle & string>(
    name: Name,
    listener: (...all: Extract<Lifecycle[Name], unknown[]>) => void,
    options?: ListenOptions,
  ): Off {
    return this.#lifecycle.on(name, listener as never, options);
  }

  /** Resolves once subscribed; rejects when that was refused. Then it is tried again on the next connection. */
  ready({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const end = (error: unknown = this.error ?? this.#error('closed', `${this.name} is not subscribed`)) => {
        done.abort();
        reject(error);
      };
      if (this.state === 'subscribed') return resolve();
      if (signal?.aborted) return end(signal.reason);
      if (!this.#wanted || this.state === 'failed' || this.host.connection.state === 'disconnected') return end();
      this.#lifecycle.on('end', end, done);
      this.#lifecycle.on(
        'subscribed',
        () => {
          done.abort();
          resolve();
        },
        done,
      );
      signal?.addEventListener('abort', () => end(signal.reason), done);
    });
  }

  /**
   * The events from now on, for a `for await` loop. It ends with the subscription and throws if that is refused, or if
   * it is more than `limit` events behind.
   */
  events({ signal, limit = LOOP_LIMIT }: { signal?: AbortSignal | undefined; limit?: number } = {}) {
    const items: ChannelEvent<Events>[] = [];
    const done = new AbortController();
    let problem: Error | undefined;
    let wake = () => {};
    const end = (error?: Error) => {
      problem ??= error;
      done.abort();
      wake();
    };
    this.#lifecycle.on('end', end, done);
    this.#lifecycle.on(
      'event',
      (event) => {
        if (items.push(event) > limit) {
          end(this.#error('buffer_full', `A loop is ${limit} events behind: take them faster, or raise its limit`));
        }
        wake();
      },
      done,
    );
    signal?.addEventListener('abort', () => end(), done);
    if (signal?.aborted || !this.#wanted) end();
    return (async function* () {
      try {
        for (;;) {
          if (items.length) yield items.shift()!;
          else if (problem) throw problem;
          else if (done.signal.aborted) return;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        end();
      }
    })();
  }

  [Symbol.asyncIterator]() {
    return this.events();
  }

  /**
   * Sends a client event (`client-...`) to the other subscribers. False when it was not sent, as the channel is not
   * subscribed or the connection takes no more: nothing is kept for later.
   */
  trigger(event: string, data?: unknown): boolean {
    if (!event.startsWith('client-') || !takesClientEvents(this.name)) {
      const message = `Only client- events are sent, and none on encrypted or reserved channels, not ${event} on ${this.name}`;
      throw this.#error('invalid_argument', message);
    }
    return this.state === 'subscribed' && this.host.connection.send(event, data, this.name);
  }

  /** Subscribes. `client.channel()` has done so; it is for a channel that was unsubscribed or refused. */
  subscribe({ rewind, signal }: SubscribeOptions = {}): this {
    if (signal?.aborted) return this;
    signal?.addEventListener('abort', () => this.unsubscribe(), { once: true });
    if (rewind !== undefined) this.#rewind = rewind;
    if (!this.#wanted) {
      this.#wanted = true;
      this.host.adopt(this);
    }
    this.begin();
    return this;
  }

  unsubscribe(): void {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#before = undefined;
    clearTimeout(this.#retryTimer);
    if (this.state === 'subscribed') this.host.connection.send('pusher:unsubscribe', { channel: this.name });
    // What the server was asked it answers first; it would know nothing yet that could be ended.
    if (!this.#asked) this.#leave();
    this.state = 'unsubscribed';
    this.left();
    this.ended();
  }

  /** @internal There is a connection, or it is time to try again. */
  begin(): void {
    const { connection } = this.host;
    const { socketId } = connection;
    if (!this.#wanted || this.state === 'subscribed') return;
    this.state = 'pending';
    this.error = undefined;
    if (!socketId || this.#attempt) return;
    clearTimeout(this.#retryTimer);
    const { signal } = (this.#attempt = new AbortController());
    this.start(signal).catch((error) => {
      if (!signal.aborted) this.failed(error);
    });
  }

  /** @internal */
  protected async start(signal?: AbortSignal): Promise<void> {
    if (!/^p(rivate|resence)-/.test(this.name)) return this.#ask('');
    const auth = await this.host.authorize(this.name, signal!);
    if (signal!.aborted) return;
    this.authorized(auth);
    this.#ask(auth.auth, auth.channel_data);
  }

  /** @internal */
  protected rename(name: string): void {
    if (name !== this.name) this.#before = undefined;
    this.name = name;
  }

  /** @internal The connection is gone. */
  lost(): void {
    clearTimeout(this.#retryTimer);
    this.#stopAttempt();
    this.#failures = 0;
    if (this.#wanted) this.state = 'pending';
    else this.host.forget(this);
  }

  /** @internal It does not go on by itself. */
  ended(error?: Error): boolean {
    return this.#lifecycle.emit('end', error);
  }

  /** @internal */
  receive(frame: Frame): void {
    const { event, position, data } = frame;
    if (event === 'pusher_internal:subscription_succeeded') return this.#succeeded(frame);
    if (event === 'pusher:subscription_error') {
      const { error, status } = data;
      const message = `Subscription to ${this.name} refused: ${error}`;
      return this.failed(this.#error('subscription_refused', message, { status, retrying: status >= 500 }));
    }
    // Anything else before the answer is of a subscription that was given up.
    if (this.state !== 'subscribed') return;
    if (position !== undefined) this.#reached(position);
    if (/^pusher(_internal)?:/.test(event)) this.internal(frame);
    else this.open(frame);
  }

  /** @internal An event as it arrived. */
  protected open(frame: Frame): void {
    this.deliver(frame);
  }

  /** @internal For kinds that have more to say. */
  protected authorized(_auth: ChannelAuth): void {}

  /** @internal */
  protected confirmed(_data: any): void {}

  /** @internal */
  protected left(): void {}

  /** @internal */
  protected internal({ event, data }: Frame): void {
    if (event === 'pusher_internal:subscription_count') {
      this.count = data.subscription_count;
      this.#lifecycle.emit('count', data.subscription_count);
    } else if (event === 'pusher:cache_miss') {
      this.#lifecycle.emit('cacheMiss');
    }
  }

  /** @internal */
  protected tell(name: string, ...all: unknown[]): void {
    this.#lifecycle.emit(name, ...all);
  }

  #ask(auth: string, channelData?: string): void {
    const { connection, settings } = this.host;
    const { position, socketId } = this.#before ?? {};
    this.#asked = true;
    connection.send('pusher:subscribe', {
      channel: this.name,
      auth,
      channel_data: channelData,
      recover: settings.recover ? (position === undefined ? true : { position, socket_id: socketId }) : undefined,
      rewind: this.#before ? undefined : this.#rewind,
    });
  }

  #succeeded(frame: Frame): void {
    this.#attempt = undefined;
    this.#asked = false;
    this.#failures = 0;
    if (!this.#wanted) {
      this.host.connection.send('pusher:unsubscribe', { channel: this.name });
      this.#leave();
      return;
    }
    const { position, recovered = false, reason } = frame.data ?? {};
    const again = this.#before !== undefined;
    this.#reached(position);
    this.state = 'subscribed';
    this.confirmed(frame.data);
    this.#lifecycle.emit('subscribed', { again, recovered });
    if (recovered) this.#lifecycle.emit('recovered');
    else if (again) this.gap(reason ?? 'no_history');
  }

  /** @internal */
  protected gap(reason: GapReason): void {
    this.#lifecycle.emit('gap', { reason });
  }

  #reached(position: string | undefined): void {
    this.#before = { position, socketId: this.host.connection.socketId! };
  }

  /** @internal An event for the application. */
  protected deliver({ event, data, user_id: userId }: Frame): void {
    if (!this.#wanted) return;
    const metadata: Metadata = userId === undefined ? {} : { userId };
    this.#events.emit(event, data, metadata);
    this.#lifecycle.emit('event', { event, data, ...metadata });
  }

  /** @internal */
  protected failed(error: FanfareError): void {
    if (!this.#attempt) return;
    this.#stopAttempt();
    if (!this.#wanted) return this.#leave();
    this.error = error;
    let heard = false;
    if (error.retrying) {
      // On top of what the endpoint asks for, because it asks all clients for the same.
      error.retryIn = (error.retryAfter ?? 0) + retryDelay(this.#failures, this.host.settings.backoff);
      this.#failures += 1;
      this.#retryTimer = setTimeout(() => this.begin(), error.retryIn);
    } else {
      this.state = 'failed';
      heard = this.ended(error);
    }
    this.report(error, heard);
  }

  /** @internal */
  protected report(error: FanfareError, heard?: boolean): void {
    if (!this.#lifecycle.emit('error', error) && !heard) this.host.connection.report(error);
  }

  #stopAttempt(): void {
    this.#attempt?.abort();
    this.#attempt = undefined;
    this.#asked = false;
  }

  #leave(): void {
    this.#stopAttempt();
    this.host.forget(this);
  }

  #error(code: ErrorCode, message: string, details?: ErrorDetails): FanfareError {
    return new FanfareError(code, message, { channel: this.name, ...details });
  }
}
