// A client that runs in any JavaScript runtime and reports on standard output, one JSON value a line.
const [settings] = (globalThis.Deno?.args ?? process.argv.slice(2)).map((text) => JSON.parse(text));
const { Fanfare } = await import(settings.library);
const report = (kind, value) => console.log(JSON.stringify({ kind, value }));

const client = new Fanfare(settings.key, {
  url: settings.url,
  transports: [settings.transport],
  auth: { endpoint: settings.authEndpoint },
});
client.on('error', ({ code, closeCode }) => report('error', { code, closeCode }));
client.on('state', ({ current }) => report('state', current));
for (const name of settings.channels) {
  const channel = client.channel(name);
  channel.bind('news', (data) => report('event', { channel: name, data }));
  channel.ready().then(
    () => report('subscribed', name),
    ({ code }) => report('refused', { channel: name, code }),
  );
}
