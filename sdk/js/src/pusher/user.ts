import type { FanfareError } from '../errors.js';
import type { Frame } from '../protocol.js';
import type { User as CoreUser, UserData } from '../user.js';
import { authError } from './auth.js';
import { Channel, type ChannelOwner } from './channel.js';
import { Dispatcher } from './dispatcher.js';

export class User extends Dispatcher {
  readonly watchlist = new Dispatcher();
  signin_requested = false;
  /** Resolves when the sign-in is done, whether or not it was refused. */
  signinDonePromise: Promise<void> | null = null;
  serverToUserChannel: Channel | null = null;

  #core: CoreUser<any>;
  #channel: Channel | undefined;
  #done: () => void = () => {};

  /** @internal */
  constructor(core: CoreUser<any>, owner: ChannelOwner) {
    super();
    this.#core = core;
    core.on('signedIn', () => {
      if (this.#channel?.name !== core.name) this.#channel = new Channel(core, owner);
      this.serverToUserChannel = this.#channel;
      this.#done();
    });
    core.on('signedOut', () => {
      this.serverToUserChannel = null;
      this.#expect();
    });
    core.on('error', (error) => this.#failed(error));
    for (const name of ['online', 'offline'] as const) {
      core.on(name, (ids) => this.watchlist.emit(name, { name, user_ids: ids }));
    }
  }

  get user_data(): UserData | null {
    return this.#core.data ?? null;
  }

  signin(): void {
    if (this.signin_requested) return;
    this.signin_requested = true;
    this.#expect();
    this.#core.subscribe();
  }

  /** @internal */
  handle(frame: Frame): void {
    this.serverToUserChannel?.handle(frame);
    if (!frame.event.startsWith('pusher')) this.emit(frame.event, frame.data);
  }

  #expect(): void {
    this.signinDonePromise = new Promise((resolve) => (this.#done = resolve));
  }

  #failed(error: FanfareError): void {
    if (error.code === 'auth_failed') this.emit('pusher:signin_error', authError(error));
    this.#done();
  }
}
