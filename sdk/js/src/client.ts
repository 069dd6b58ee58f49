import { authorize, type ChannelAuth } from './auth.js';
import { Channel, type ChannelHost, type EventMap, type SubscribeOptions } from './channel.js';
import { hasMembers, isEncrypted, isReserved } from './channel-kind.js';
import { Connection, type ConnectionState } from './connection.js';
import type { ListenOptions, Off } from './emitter.js';
import { FanfareError } from './errors.js';
import { settingsFrom, type Endpoints, type Options, type Settings } from './options.js';
import { PresenceChannel } from './presence.js';
import type { Frame } from './protocol.js';
import { User, type UserData } from './user.js';

export interface ClientEvents {
  state: [change: { previous: ConnectionState; current: ConnectionState }];
  /** Every error that neither a channel's nor the user's own `error` listeners have got. */
  error: [error: FanfareError];
}


/** A connection to a Fanfare server. It is made when it is needed: by the first channel, a sign-in, or `connect()`. */
export class Fanfare implements ChannelHost {
  /** Who is signed in, and what is sent to them. */
  readonly user: User;
  /** @internal */
  readonly settings: Settings;
  /** @internal */
  readonly connection: Connection;

  /** @internal Errors that the server sent, until it is known which subscription they are about. */
  readonly serverErrors: FanfareError[] = [];

  #channels = new Map<string, Channel<any, any>>();

  constructor(key: string, options?: Options);
  /** @internal */
  constructor(key: string, options: Options, endpoints: Endpoints | undefined);
  constructor(key: string, options: Options = {}, endpoints?: Endpoints) {
    this.settings = settingsFrom(key, options, endpoints);
    const connection = (this.connection = new Connection(this.settings));
    this.user = new User(this);
    connection.on('state', ({ previous, current }) => {
      if (previous === 'connected') {
        this.#each((channel) => channel.lost());
        this.#reportServerErrors();
      }
      if (current === 'connected') this.#each((channel) => channel.begin());
      if (current === 'disconnected' || current === 'failed')
        this.#each((channel) => channel.ended(connection.refusal));
    });
    connection.on('frame', (frame) => this.#receive(frame));
    const { signal } = options;
    if (signal?.aborted) this.disconnect();
    signal?.addEventListener('abort', () => this.disconnect());
  }

  get state(): ConnectionState {
    return this.connection.state;
  }

  /** The name of this connection on the server, for backends that leave it out of what it has caused. */
  get socketId(): string | undefined {
    return this.connection.socketId;
  }

  /** `websocket`, `streaming` or `polling`, while connected. */
  get transport(): string | undefined {
    return this.connection.transport;
  }

  on<Name extends keyof ClientEvents>(
    name: Name,
    listener: (...all: ClientEvents[Name]) => void,
    options?: ListenOptions,
  ): Off {
    return this.connection.on(name, listener as never, options);
  }

  connect(): void {
    this.connection.connect();
  }

  /** Closes the connection. Channels stay, and are subscribed again, with what they have missed, after `connect()`. */
  disconnect(): void {
    this.connection.disconnect();
  }

  /** Subscribes to a channel, or gives the one that is subscribed already. */
  channel<Events extends EventMap = EventMap, Info = any>(
    name: `presence-${string}`,
    options?: SubscribeOptions,
  ): PresenceChannel<Events, Info>;
  channel<Events extends EventMap = EventMap>(name: string, options?: SubscribeOptions): Channel<Events>;
  channel(name: string, options?: SubscribeOptions): Channel<any, any> {
    return (this.#channels.get(name) ?? this.#make(name)).subscribe(options);
  }

  /** The channels that are subscribed to or about to be. */
  channels(): Channel[] {
    return [...this.#channels.values()];
  }

  /** Signs the user in, on this connection and those that follow it. Rejects when that is refused. */
  async signin(options?: { signal?: AbortSignal | undefined }): Promise<UserData> {
    await this.user.subscribe().ready(options);
    return this.user.data!;
  }

  /** @internal */
  async authorize(channelName: string, signal: AbortSignal): Promise<ChannelAuth> {
    const { encryption } = this.settings;
    // No exception where the channel is asked for: it would end the rest of a page's script.
    if (isEncrypted(channelName) && !encryption) {
      const message = `For ${channelName}, load fanfare-encrypted.js instead of fanfare.js, or give the option encryption of @fanfare/client/encrypted`;
      throw new FanfareError('unsupported', message, { channel: channelName });
    }
    const auth = await authorize(this.settings, { socketId: this.socketId!, channelName, signal });
    // Who the member is, the server then knows from the sign-in.
    const waits = hasMembers(channelName) && auth.channel_data === undefined;
    if (waits && this.user.state !== 'unsubscribed') await this.user.ready({ signal });
    return auth;
  }

  /** @internal */
  adopt(channel: Channel<any, any>): void {
    if (this.state === 'initialized') this.connect();
    if (channel === this.user) return;
    const { name } = channel;
    if ((this.#channels.get(name) ?? channel) !== channel) {
      throw new FanfareError('invalid_argument', `${name} was subscribed to anew: use what client.channel() gives`);
    }
    this.#channels.set(name, channel);
  }

  /** @internal */
  forget(channel: Channel<any, any>): void {
    this.#channels.delete(channel.name);
  }

  #make(name: string): Channel<any, any> {
    if (isReserved(name))
      throw new FanfareError('invalid_argument', `For ${name}, call signin() and use client.user`);
    if (hasMembers(name)) return new PresenceChannel(name, this);
    const { encryption } = this.settings;
    return isEncrypted(name) && encryption ? encryption(name, this) : new Channel(name, this);
  }

  #each(action: (channel: Channel<any, any>) => void): void {
    [this.user, ...this.#channels.values()].forEach(action);
  }

  #receive(frame: Frame): void {
    const { event, channel, data } = frame;
    const isUsers = channel === undefined || channel === this.user.name;
    (isUsers ? this.user : this.#channels.get(channel))?.receive(frame);
    if (event === 'pusher:error') {
      const { code, message } = data;
      const error = new FanfareError('server_error', `The server said: ${message}`, { closeCode: code, reason: message });
      // Of other codes the close frame tells, which follows.
      if (code >= 4300) this.connection.report(error);
      if (code) return;
      // If it is about a subscription, the channel is told next; the answer to a ping comes after that.
      this.serverErrors.push(error);
      this.connection.send('pusher:ping', {});
    } else if (event === 'pusher:subscription_error') {
      const index = this.serverErrors.findIndex(({ reason }) => reason === data.error);
      if (index >= 0) this.serverErrors.splice(index, 1);
    } else if (event === 'pusher:pong') {
      this.#reportServerErrors();
    }
  }

  #reportServerErrors(): void {
    this.serverErrors.splice(0).forEach((error) => this.connection.report(error));
  }
}
