import type { ChannelAuth } from './auth.js';
import { Channel, type ChannelHost, type Encryption } from './channel.js';
import { FanfareError } from './errors.js';
import { parse, type Frame } from './protocol.js';

export type SecretBoxOpen = (box: Uint8Array, nonce: Uint8Array, key: Uint8Array) => Uint8Array | null;

// Events that may wait while a new key is requested.
const MAX_WAITING = 1_000;

/** Returns a value for the option `encryption` that uses an implementation of NaCl's secretbox. */
export function encryptionWith(open: SecretBoxOpen): Encryption {
  return (name, host) => new EncryptedChannel(name, host, open);
}

class EncryptedChannel extends Channel {
  #open: SecretBoxOpen;
  #key: Uint8Array | undefined;
  #waiting: Frame[] | undefined;

  constructor(name: string, host: ChannelHost, open: SecretBoxOpen) {
    super(name, host);
    this.#open = open;
  }

  protected override authorized({ shared_secret: secret }: ChannelAuth): void {
    const key = secret === undefined ? undefined : bytes(secret);
    if (key?.length !== 32) {
      const message = `Auth for ${this.name} needs a shared_secret of 32 bytes in base64, from the app's own endpoint`;
      throw new FanfareError('auth_failed', message, { channel: this.name });
    }
    this.#key = key;
  }

  protected override open(frame: Frame): void {
    if (this.#waiting) {
      if (this.#waiting.length < MAX_WAITING) this.#waiting.push(frame);
      else this.#leaveOut(frame, 'too much arrived while the key was asked for');
    } else if (!this.#decrypted(frame)) {
      this.#waiting = [];
      this.#renew(frame);
    }
  }

  // The key may have been changed, so the auth endpoint is asked for the current one. Later events wait meanwhile, in
  // order.
  async #renew(frame: Frame): Promise<void> {
    let problem = 'it is encrypted with another key than the auth endpoint gives';
    try {
      this.authorized(await this.host.authorize(this.name, new AbortController().signal));
    } catch (error) {
      problem = `the key could not be renewed: ${(error as Error).message}`;
    }
    for (const next of [frame, ...this.#waiting!]) if (!this.#decrypted(next)) this.#leaveOut(next, problem);
    this.#waiting = undefined;
  }

  #decrypted(frame: Frame): boolean {
    const text = this.#decrypt(frame.data);
    if (text === undefined) return false;
    const value = parse(text);
    this.deliver({ ...frame, data: value === undefined ? text : value });
    return true;
  }

  #decrypt(data: any): string | undefined {
    if (!this.#key || typeof data?.nonce !== 'string' || typeof data.ciphertext !== 'string') return undefined;
    const [nonce, box] = [bytes(data.nonce), bytes(data.ciphertext)];
    if (nonce?.length !== 24 || !box || box.length < 16) return undefined;
    const plain = this.#open(box, nonce, this.#key);
    return plain ? new TextDecoder().decode(plain) : undefined;
  }

  #leaveOut({ event }: Frame, problem: string): void {
    const message = `An event ${event} on ${this.name} cannot be decrypted and is left out: ${problem}`;
    this.report(new FanfareError('decryption_failed', message, { channel: this.name }));
    this.gap('undecryptable');
  }
}

function bytes(base64: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
