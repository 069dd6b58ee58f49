// Server SDKs: Pusher's own, as their READMEs use them.
import { sdkRow, steps } from './sdk-row.mjs';

export const kind = {
  title: 'Server SDKs',
  intro: `
Each SDK is used by a program of a few lines in [programs](../../crates/testkit/known-to-work/programs).
What the versions of an SDK don't have is "not offered".

| column | what is tried |
| --- | --- |
| publishes | An event for one channel, for two, a batch, and one that leaves its sender out. Quotes, letters beyond ASCII and line ends arrive as they were. |
| reads | Occupied channels, one channel, the users of a presence channel. |
| authorizes | A client joins a private and a presence channel with its signatures. |
| users | A client signs in with its signature, gets an event that is sent to the user, and is disconnected. |
| webhooks | A webhook of the server is valid, and with another body it isn't. |
| restart | While the server is away a publish is an error. Afterwards it succeeds. |`,
  steps,
  // Unlike clients they are never idle.
  atOnce: 2,
};

const npm = (version, more) =>
  sdkRow({ name: `npm pusher ${version}`, group: 'Node', program: 'npm-pusher.mjs', npm: { pusher: version }, ...more });
const python = (version, more) =>
  sdkRow({ name: `PyPI pusher ${version}`, group: 'Python', program: 'pypi_pusher.py', pypi: { pusher: version }, ...more });

export const rows = [
  ...['5.3.4', '5.2.0', '5.0.1', '4.0.2', '3.0.1', '2.2.2'].map((version) => npm(version)),
  sdkRow({
    name: 'npm pusher-http-edge',
    group: 'Node',
    program: 'npm-pusher.mjs',
    npm: { 'pusher-http-edge': '0.4.0' },
    options: { library: 'pusher-http-edge' },
  }),
  ...['3.3.4', '3.2.0', '2.1.4', '1.7.4'].map((version) => python(version)),
];
