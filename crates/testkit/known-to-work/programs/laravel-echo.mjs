// Laravel Echo with pusher-js, as Laravel's documentation configures it for a server of one's own. Echo puts "private-" and "presence-"
// before names by itself.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { host, port, key, auth, channels, entry } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES, 'package.json'));
// Its CommonJS build does not load in Node since 2.0, its module does.
const { default: Echo } = entry
  ? await import(pathToFileURL(join(process.env.PACKAGES, 'node_modules/laravel-echo', entry)))
  : { default: load('laravel-echo').default ?? load('laravel-echo') };
const pusherJs = load('pusher-js');
const echo = new Echo({
  broadcaster: 'pusher',
  key,
  cluster: 'x',
  wsHost: host,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws'],
  disableStats: true,
  authEndpoint: auth,
  Pusher: pusherJs.Pusher ?? pusherJs,
});
const print = (event, channel, data) => console.log(JSON.stringify({ event, channel, data }));
for (const name of channels) {
  const [kind, bare] = /^(private|presence)-(.*)/.exec(name)?.slice(1) ?? ['public', name];
  const channel = { public: () => echo.channel(name), private: () => echo.private(bare), presence: () => echo.join(bare) }[kind]();
  channel.subscription.bind('pusher:subscription_succeeded', () => print('pusher:subscription_succeeded', name));
  // A dot before the name says that it is no class of Laravel.
  channel.listen('.tick', (data) => print('tick', name, data));
  channel.error?.((error) => console.log('refused', name, error));
}
