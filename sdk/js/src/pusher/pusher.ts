import type { Encryption } from '../channel.js';
import { hasMembers, isReserved } from '../channel-kind.js';
import { Fanfare } from '../client.js';
import { FanfareError } from '../errors.js';
import type { Frame } from '../protocol.js';
import { authOf } from './auth.js';
import { Channel, PresenceChannel } from './channel.js';
import { Connection } from './connection.js';
import { Dispatcher } from './dispatcher.js';
import { coreOptionsOf, endpointsOf, usesTls, validate, type Options } from './options.js';
import { User } from './user.js';

/** The interface of pusher-js 8, on Fanfare's client. */
export class Pusher {
  /** For `require(...).default`, as TypeScript sees a CommonJS module. */
  static readonly default: typeof Pusher = Pusher;
  static instances: Pusher[] = [];
  static logToConsole = false;
  /** Receives log lines, instead of the console. */
  static log: ((message: string) => void) | undefined;
  /** @internal Returns how encrypted channels are opened, from the options. */
  static encryption: ((options: Options) => Encryption | undefined) | undefined;

  key: string;
  options: Options;
  readonly connection: Connection;
  readonly user: User;
  readonly global_emitter = new Dispatcher();
  readonly channels = {
    // Without a prototype, so that a channel may be named `constructor`.
    channels: Object.create(null) as Record<string, Channel>,
    find: (name: string): Channel | undefined => this.channels.channels[name],
    all: (): Channel[] => Object.values(this.channels.channels),
  };

  #core: Fanfare;

  constructor(key: string, options: Options) {
    validate(key, options);
    this.key = key;
    this.options = options;
    const encryption = (this.constructor as typeof Pusher).encryption?.(options);
    const auth = authOf(
      options,
      () => this.#core.settings,
      (name) => this.channel(name),
    );
    this.#core = new Fanfare(key, { ...coreOptionsOf(options, encryption), auth }, endpointsOf(options));
    this.connection = new Connection(this.#core);
    this.user = new User(this.#core.user, this);
    this.#listen();
    Pusher.instances.push(this);
    this.connect();
  }

  /** Connects all instances. pusher-js waits for the document before that, which isn't needed here. */
  static ready(): void {
    for (const pusher of Pusher.instances) pusher.connect();
  }

  connect(): void {
    this.connection.connect();
  }

  disconnect(): void {
    this.connection.disconnect();
  }

  channel(name: string): Channel | undefined {
    return this.channels.find(name);
  }

  allChannels(): Channel[] {
    return this.channels.all();
  }

  subscribe(name: `presence-${string}`): PresenceChannel;
  subscribe(name: string): Channel;
  subscribe(name: string): Channel {
    const existing = this.channel(name);
    if (existing) {
      existing.subscriptionCancelled = false;
      existing.core.subscribe();
      return existing;
    }
    const core = this.#core.channel(name);
    const channel = hasMembers(name) ? new PresenceChannel(core, this) : new Channel(core, this);
    this.channels.channels[name] = channel;
    return channel;
  }

  unsubscribe(name: string): void {
    const channel = this.channel(name);
    if (!channel) return;
    const { core } = channel;
    core.unsubscribe();
    // The server's answer is still to come. An application that subscribes again until then gets the same object.
    if (this.#core.channels().includes(core)) channel.subscriptionCancelled = true;
    else this.#forget(channel);
  }

  send_event(event: string, data: unknown, channel?: string): boolean {
    this.#debug('Event sent', { event, data, channel });
    return this.connection.send_event(event, data, channel);
  }

  signin(): void {
    this.user.signin();
  }

  shouldUseTLS(): boolean {
    return usesTls(this.options);
  }

  bind(event: string, callback: (...all: any[]) => void, context?: unknown): this {
    this.global_emitter.bind(event, callback, context);
    return this;
  }

  unbind(event?: string, callback?: (...all: any[]) => void, context?: unknown): this {
    this.global_emitter.unbind(event, callback, context);
    return this;
  }

  bind_global(callback: (event: string, data: any) => void): this {
    this.global_emitter.bind_global(callback);
    return this;
  }

  unbind_global(callback?: (event: string, data: any) => void): this {
    this.global_emitter.unbind_global(callback);
    return this;
  }

  unbind_all(): this {
    this.global_emitter.unbind_all();
    return this;
  }

  #listen(): void {
    const { connection } = this.#core;
    connection.on('state', (change) => {
      this.#debug('State changed', `${change.previous} -> ${change.current}`);
      for (const channel of this.allChannels()) {
        if (change.previous === 'connected') channel.disconnect();
        if (channel.subscriptionCancelled) this.#forget(channel);
      }
      this.connection.become(change);
    });
    connection.on('frame', (frame) => this.#receive(frame));
    connection.on('error', (error) => {
      if (error.code !== 'server_error') this.connection.failed(error);
      if (!error.retrying) this.#warn(error);
    });
  }

  #receive(frame: Frame): void {
    const { event, channel: name, data, user_id: userId } = frame;
    this.#debug('Event recd', frame);
    if (event === 'pusher:error') this.connection.emit('error', { type: 'PusherError', data });
    const channel = name === undefined ? undefined : this.channel(name);
    if (channel?.subscriptionCancelled) {
      if (!this.#core.channels().includes(channel.core)) this.#forget(channel);
    } else {
      channel?.handle(frame);
    }
    if (!event.startsWith('pusher_internal:')) this.global_emitter.emit(event, data);
    if (name !== undefined && isReserved(name)) this.user.handle(frame);
    const whole = { event, channel: name, data, ...(userId !== undefined && { user_id: userId }) };
    this.connection.emit('message', whole);
  }

  #forget(channel: Channel): void {
    channel.subscriptionCancelled = false;
    delete this.channels.channels[channel.name];
  }

  #debug(what: string, details: unknown): void {
    if (Pusher.log || Pusher.logToConsole) this.#log('log', `${what} ${JSON.stringify(details)}`);
  }

  #warn(error: FanfareError): void {
    if (Pusher.log || Pusher.logToConsole) this.#log('warn', error.message);
  }

  #log(level: 'log' | 'warn', text: string): void {
    const message = `Pusher : ${text}`;
    if (Pusher.log) Pusher.log(message);
    else console[level](message);
  }
}
