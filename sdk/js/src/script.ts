// For a script tag: `new Fanfare(KEY, OPTIONS)`, and the class of its errors beside it.
import { Fanfare } from './client.js';
import { FanfareError } from './errors.js';

export default Object.assign(Fanfare, { FanfareError });
