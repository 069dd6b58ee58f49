import nacl from 'tweetnacl';
import type { Encryption } from './channel.js';
import { encryptionWith } from './encrypted-channel.js';

/** Value for the option `encryption`: opens `private-encrypted-` channels with the keys of the app's auth endpoint. */
export const encryption: Encryption = encryptionWith((box, nonce, key) => nacl.secretbox.open(box, nonce, key));

export { encryptionWith, type SecretBoxOpen } from './encrypted-channel.js';
