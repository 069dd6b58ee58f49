import type { ChannelAuth } from './auth.js';
import { Channel, type ChannelEvents, type EventMap } from './channel.js';
import { parse, type Frame } from './protocol.js';

export interface Member<Info = any> {
  id: string;
  info: Info;
}

export interface PresenceEvents<Info = any> extends ChannelEvents {
  join: [member: Member<Info>];
  leave: [member: Member<Info>];
  /** After each change, also when a subscription shows who is there. */
  members: [members: ReadonlyMap<string, Info>];
}

/** A channel that knows who is on it. */
export class PresenceChannel<Events extends EventMap = EventMap, Info = any> extends Channel<
  Events,
  PresenceEvents<Info>
> {
  /** Member ids and what is known of each. A new map after each change; while disconnected, who was there last. */
  members: ReadonlyMap<string, Info> = new Map();
  /** The member that this client is. */
  myId: string | undefined;

  #seen = false;

  get me(): Member<Info> | undefined {
    const id = this.myId;
    return id !== undefined && this.members.has(id) ? { id, info: this.members.get(id)! } : undefined;
  }

  /** @internal */
  protected override authorized({ channel_data: data }: ChannelAuth): void {
    const id = data === undefined ? this.host.user.id : parse(data)?.user_id;
    this.myId = id === undefined ? undefined : String(id);
  }

  /** @internal */
  protected override confirmed(data: any): void {
    this.#show(new Map(Object.entries<Info>(data?.presence?.hash ?? {})));
  }

  /** @internal */
  protected override internal(frame: Frame): void {
    const { event, data } = frame;
    const members = new Map(this.members);
    if (event === 'pusher_internal:member_added') members.set(String(data.user_id), data.user_info);
    else if (event === 'pusher_internal:member_removed') members.delete(String(data.user_id));
    else return super.internal(frame);
    this.#show(members);
  }

  /** @internal */
  protected override left(): void {
    this.members = new Map();
    this.#seen = false;
  }

  #show(members: ReadonlyMap<string, Info>): void {
    const before = this.members;
    this.members = members;
    // After a lost connection, who came and went meanwhile. The first time, everybody was there before.
    if (this.#seen) {
      before.forEach((info, id) => members.has(id) || this.tell('leave', { id, info }));
      members.forEach((info, id) => before.has(id) || this.tell('join', { id, info }));
    }
    this.#seen = true;
    this.tell('members', members);
  }
}
