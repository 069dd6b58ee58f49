// Code of a client that receives events, as it connects to the server that this page is from.

export const SNIPPET_NAMES = ['Fanfare SDK', 'pusher-js', 'Laravel Echo'] as const;
export type SnippetName = (typeof SNIPPET_NAMES)[number];

/** `base` is the address of the dashboard, without a slash at its end. */
export function clientSnippet(name: SnippetName, key: string, base: string): string {
  switch (name) {
    case 'Fanfare SDK':
      return `<script src="${base}/sdk/fanfare.js"></script>
<script>
  const client = new Fanfare(${quoted(key)}, { url: ${quoted(base)} });
  client.channel('my-channel').bind('my-event', (data) => console.log(data));
</script>`;
    case 'pusher-js':
      return `<!-- With a bundler: import Pusher from 'pusher-js' -->
<script src="https://cdn.jsdelivr.net/npm/pusher-js@8.6.0/dist/web/pusher.min.js"></script>
<script>
const pusher = new Pusher(${quoted(key)}, {
  cluster: 'x', // pusher-js wants one; any will do
${options(base)}
  // For private- and presence- channels: your backend, which signs with the key's secret.
  channelAuthorization: { endpoint: '/pusher/auth' },
});
pusher.subscribe('my-channel').bind('my-event', (data) => console.log(data));
</script>`;
    case 'Laravel Echo':
      return `import Echo from 'laravel-echo';
import Pusher from 'pusher-js';

window.Pusher = Pusher;
window.Echo = new Echo({
  broadcaster: 'pusher',
  key: ${quoted(key)},
  cluster: 'x', // pusher-js wants one; any will do
${options(base)}
});
Echo.channel('my-channel').listen('.my-event', (data) => console.log(data));`;
  }
}

/** The host and port of pusher-js: those of HTTP are for networks that let no WebSocket through. */
function options(base: string): string {
  const { protocol, hostname, port, pathname } = new URL(base);
  const isTls = protocol === 'https:';
  const [ws, http] = isTls ? ['wssPort', 'httpsPort'] : ['wsPort', 'httpPort'];
  const number = port || (isTls ? '443' : '80');
  const prefix = pathname.replace(/\/$/, '');
  const lines = [`wsHost: ${quoted(hostname)}, ${ws}: ${number},`, `httpHost: ${quoted(hostname)}, ${http}: ${number},`];
  if (prefix) lines.push(`wsPath: ${quoted(prefix)}, httpPath: ${quoted(`${prefix}/pusher`)},`);
  lines.push(`forceTLS: ${isTls},`);
  return lines.map((line) => `  ${line}`).join('\n');
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
