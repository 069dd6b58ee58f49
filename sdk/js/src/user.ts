import { authorize } from './auth.js';
import { Channel, type ChannelEvents, type ChannelHost, type EventMap } from './channel.js';
import { FanfareError } from './errors.js';
import { parse, type Frame } from './protocol.js';

export interface UserData {
  id: string;
  user_info?: any;
  watchlist?: string[];
  [more: string]: unknown;
}

export interface UserEvents extends ChannelEvents {
  signedIn: [user: UserData];
  /** The connection that was signed in is gone. The next one is signed in by itself. */
  signedOut: [];
  /** People of the watchlist have come. */
  online: [ids: string[]];
  /** People of the watchlist have gone. */
  offline: [ids: string[]];
}

/** Who is signed in, and the channel of what is sent to them wherever they are. */
export class User<Events extends EventMap = EventMap> extends Channel<Events, UserEvents> {
  /** While signed in. */
  data: UserData | undefined;

  #asked = false;

  /** @internal */
  constructor(host: ChannelHost) {
    super('#server-to-user-', host);
  }

  get id(): string | undefined {
    return this.data?.id;
  }

  /** @internal Signing in comes first, then the subscription. */
  protected override async start(signal: AbortSignal): Promise<void> {
    if (this.data) return super.start(signal);
    const { connection, settings } = this.host;
    const { auth, user_data } = await authorize(settings, { socketId: connection.socketId!, signal });
    if (signal.aborted) return;
    this.#asked = true;
    connection.send('pusher:signin', { auth, user_data });
    // A refusal is an error that does not say what it is about. The answer to this comes after it.
    connection.send('pusher:ping', {});
  }

  /** @internal */
  override lost(): void {
    const signedIn = this.data;
    this.data = undefined;
    this.#asked = false;
    super.lost();
    if (signedIn) this.tell('signedOut');
  }

  /** @internal */
  override receive(frame: Frame): void {
    const { event, data } = frame;
    if (event === 'pusher:signin_success') {
      this.data = parse(data.user_data) as UserData;
      this.#asked = false;
      this.rename(`#server-to-user-${this.data.id}`);
      this.tell('signedIn', this.data);
      super.start();
    } else if (event === 'pusher_internal:watchlist_events') {
      for (const { name, user_ids: ids } of data.events) this.tell(name, ids);
    } else if (event === 'pusher:pong') {
      const refusal = this.#asked && this.host.serverErrors.pop();
      if (!refusal) return;
      this.#asked = false;
      this.failed(new FanfareError('signin_refused', `Sign-in refused: ${refusal.reason}`));
    } else if (frame.channel) {
      super.receive(frame);
    }
  }
}
