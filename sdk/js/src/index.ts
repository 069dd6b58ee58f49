export { Fanfare, type ClientEvents } from './client.js';
export {
  Channel,
  type ChannelEvent,
  type ChannelEvents,
  type ChannelState,
  type Encryption,
  type EventMap,
  type GapReason,
  type Metadata,
  type SubscribeOptions,
  type Subscribed,
} from './channel.js';
export { PresenceChannel, type Member, type PresenceEvents } from './presence.js';
export type { User, UserData, UserEvents } from './user.js';
export type { AuthOptions, ChannelAuth, ChannelAuthRequest, UserAuth, UserAuthRequest } from './auth.js';
export type { ConnectionState } from './connection.js';
export type { ListenOptions, Off } from './emitter.js';
export type { Options, WebSocketLike } from './options.js';
export type { TransportName } from './transports/transport.js';
export { FanfareError, type ErrorCode } from './errors.js';
