import type { Channel as CoreChannel } from '../channel.js';
import { isEncrypted } from '../channel-kind.js';
import type { Frame } from '../protocol.js';
import type { PresenceChannel as CorePresenceChannel } from '../presence.js';
import { FanfareError } from '../errors.js';
import { authError } from './auth.js';
import { Dispatcher } from './dispatcher.js';

const SUCCEEDED = 'pusher_internal:subscription_succeeded';

/** The parts of `Pusher` that a channel uses. */
export interface ChannelOwner {
  send_event(event: string, data: unknown, channel?: string): boolean;
}

export class Channel extends Dispatcher {
  readonly name: string;
  readonly pusher: ChannelOwner;
  subscriptionCancelled = false;
  subscriptionCount: number | null = null;

  /** @internal */
  readonly core: CoreChannel<any, any>;

  /** @internal */
  constructor(core: CoreChannel<any, any>, pusher: ChannelOwner) {
    super();
    this.name = core.name;
    this.core = core;
    this.pusher = pusher;
    core.on('error', (error: FanfareError) => this.#failed(error));
    core.on('gap', (gap: unknown) => this.emit('fanfare:gap', gap));
    core.on('recovered', () => this.emit('fanfare:recovered', {}));
    // Encrypted events arrive here decrypted, and perhaps later.
    if (this.#encrypted) core.bindAll(({ event, data }: any) => this.emit(event, data, {}));
  }

  get subscribed(): boolean {
    return this.core.state === 'subscribed';
  }

  get subscriptionPending(): boolean {
    return this.core.state === 'pending' || this.subscriptionCancelled;
  }

  trigger(event: string, data?: unknown): boolean {
    if (!event.startsWith('client-')) {
      throw new FanfareError('invalid_argument', `Event '${event}' does not start with 'client-'`);
    }
    if (this.#encrypted) {
      throw new FanfareError('unsupported', 'Client events are not currently supported for encrypted channels');
    }
    return this.pusher.send_event(event, data, this.name);
  }

  /** @internal */
  handle({ event, data, user_id: userId }: Frame): void {
    if (event === SUCCEEDED) {
      this.emit('pusher:subscription_succeeded', this.succeeded(data));
    } else if (event === 'pusher_internal:subscription_count') {
      this.subscriptionCount = data.subscription_count || this.subscriptionCount;
      this.emit('pusher:subscription_count', data);
    } else if (event.startsWith('pusher_internal:')) {
      this.internal(event, data);
    } else if (!this.#encrypted || event.startsWith('pusher:')) {
      this.emit(event, data, userId === undefined ? {} : { user_id: userId });
    }
  }

  /** @internal */
  disconnect(): void {}

  /** @internal Returns the data of `pusher:subscription_succeeded`. */
  protected succeeded(data: any): unknown {
    // The other fields were asked for by the underlying client, not by the application.
    const { position: _, recovered: __, reason: ___, ...rest } = data ?? {};
    return rest;
  }

  /** @internal */
  protected internal(_event: string, _data: any): void {}

  get #encrypted(): boolean {
    return isEncrypted(this.name);
  }

  #failed(error: FanfareError): void {
    // The server's own refusals are already events of the channel.
    if (error.code !== 'auth_failed' && error.code !== 'unsupported') return;
    this.emit('pusher:subscription_error', authError(error));
  }
}

/** The members of a presence channel. */
export class Members {
  members: Record<string, any> = {};
  count = 0;
  myID: string | null = null;
  me: { id: string; info: any } | null = null;

  get(id: string): { id: string; info: any } | null {
    return Object.hasOwn(this.members, id) ? { id, info: this.members[id] } : null;
  }

  each(callback: (member: { id: string; info: any }) => void): void {
    for (const id of Object.keys(this.members)) callback(this.get(id)!);
  }

  /** @internal */
  show({ hash, count }: { hash: Record<string, any>; count: number }, myID: string | undefined): void {
    this.members = hash;
    this.count = count;
    this.myID = myID ?? null;
    this.me = myID === undefined ? null : this.get(myID);
  }

  /** @internal */
  add({ user_id: id, user_info: info }: { user_id: string; user_info: any }) {
    if (!this.get(id)) this.count += 1;
    this.members[id] = info;
    return this.get(id);
  }

  /** @internal */
  remove({ user_id: id }: { user_id: string }) {
    const member = this.get(id);
    if (!member) return null;
    delete this.members[id];
    this.count -= 1;
    return member;
  }

  /** @internal */
  reset(): void {
    Object.assign(this, new Members());
  }
}

export class PresenceChannel extends Channel {
  readonly members = new Members();

  /** @internal */
  override disconnect(): void {
    this.members.reset();
  }

  /** @internal */
  protected override succeeded({ presence }: any): unknown {
    this.members.show(presence, (this.core as unknown as CorePresenceChannel).myId);
    return this.members;
  }

  /** @internal */
  protected override internal(event: string, data: any): void {
    if (event === 'pusher_internal:member_added') {
      this.emit('pusher:member_added', this.members.add(data));
    } else if (event === 'pusher_internal:member_removed') {
      const member = this.members.remove(data);
      if (member) this.emit('pusher:member_removed', member);
    }
  }
}
