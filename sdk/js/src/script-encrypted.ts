// For a script tag: the same as script.ts, with encrypted channels.
import { Fanfare } from './client.js';
import { encryption } from './encrypted.js';
import { FanfareError } from './errors.js';
import type { Options } from './options.js';

class EncryptedFanfare extends Fanfare {
  constructor(key: string, options?: Options) {
    super(key, { encryption, ...options });
  }
}

export default Object.assign(EncryptedFanfare, { FanfareError });
