/** What a channel's name says of it: the only place that looks at prefixes. */

const PRESENCE = 'presence-';
const ENCRYPTED = 'private-encrypted-';

/** Whether its subscribers are members who see each other. */
export const hasMembers = (name: string): boolean => name.startsWith(PRESENCE);

/** Whether only its subscribers can read its data. */
export const isEncrypted = (name: string): boolean => name.startsWith(ENCRYPTED);

/**
 * Whether clients may send events of their own on it: on encrypted channels they would not be encrypted. Which public
 * channels take them is a setting of the app, so the server decides.
 */
export const takesClientEvents = (name: string): boolean => !isEncrypted(name) && !isReserved(name);

/** Whether it is the server's own, such as the channel of a user. */
export const isReserved = (name: string): boolean => name.startsWith('#');
