// For a script tag beside pusher-js: `fanfareRecover(pusher)`.
import { recover } from './recover.js';

export default recover;
