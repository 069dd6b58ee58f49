import { encryption } from './encrypted.js';
import { Pusher } from './pusher/pusher.js';

Pusher.encryption = () => encryption;

export default Pusher;
export type { Channel, Members, PresenceChannel } from './pusher/channel.js';
export type { Options } from './pusher/options.js';
