import { encryptionWith } from './encrypted-channel.js';
import { Pusher } from './pusher/pusher.js';

Pusher.encryption ??= ({ nacl }) => nacl && encryptionWith((...all) => nacl.secretbox.open(...all));

export default Pusher;
export type { Channel, Members, PresenceChannel } from './pusher/channel.js';
export type { Options } from './pusher/options.js';
