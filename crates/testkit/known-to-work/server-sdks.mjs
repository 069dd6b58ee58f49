// Server SDKs: Pusher's own, as their READMEs use them.
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile } from './install.mjs';
import { sdkRow, steps } from './sdk-row.mjs';

export const kind = {
  title: 'Server SDKs',
  what: 'SDK',
  intro: `
Which of Pusher's server SDKs work, and at which version.

A program of a few lines in [programs](../../crates/testkit/known-to-work/programs) uses each. What an SDK
doesn't have is "not offered".

| column | what is tried |
|---|---|
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
  ...['3.3.4', '3.2.0', '2.1.4'].map((version) => python(version)),
  python('1.7.4', { note: 'It needs `collections.Sized`, which Python 3.10 and later no longer have.' }),
  php(),
  ruby(),
  go(),
  java(),
  sdkRow({
    name: 'NuGet PusherServer, by vectors',
    group: '.NET',
    program: 'dotnet-requests.mjs',
    here: () => '5.0.0',
    note: 'Its runtime is in none of the registries, so this is not the SDK: its requests are built as its source builds them.',
  }),
];

function php() {
  const folders = ({ root, sources }) => [
    ['Pusher\\', join(sources['pusher/pusher-http-php'], 'src')],
    ...['GuzzleHttp/Psr7', 'GuzzleHttp/Promise', 'GuzzleHttp', 'Psr/Http/Client', 'Psr/Http/Message', 'Psr/Log'].map((name) => [
      `${name.replaceAll('/', '\\')}\\`,
      join(root, 'usr/share/php', name),
    ]),
  ];
  const functions = ({ root }) =>
    ['GuzzleHttp', 'GuzzleHttp/Psr7', 'GuzzleHttp/Promise']
      .map((name) => join(root, 'usr/share/php', name, 'functions_include.php'))
      .filter((file) => existsSync(file));
  return sdkRow({
    name: 'Composer pusher/pusher-php-server',
    group: 'PHP',
    program: 'php_pusher.php',
    git: { 'pusher/pusher-http-php': '7.2.7' },
    debian: [
      'php-guzzlehttp-guzzle', 'php-guzzlehttp-psr7', 'php-guzzlehttp-promises', 'php-psr-http-client', 'php-psr-http-message',
      'php-psr-http-factory', 'php-psr-log', 'php-getallheaders', 'php-symfony-deprecation-contracts',
    ],
    with: (_, file) => ['php', file],
    env: (software) => ({ SOURCES: JSON.stringify(folders(software)), FUNCTIONS: JSON.stringify(functions(software)) }),
    note: 'From its repository, with Debian\'s Guzzle. Laravel broadcasts through it.',
  });
}

function ruby() {
  const folders = ({ root, sources }) => [
    ...Object.values(sources).map((folder) => join(folder, 'lib')),
    join(root, 'usr/lib/ruby/vendor_ruby'),
    ...gems(root).map((folder) => join(folder, 'lib')),
  ];
  return sdkRow({
    name: 'gem pusher',
    group: 'Ruby',
    program: 'ruby_pusher.rb',
    // The tags of the second are those of another gem.
    git: { 'pusher/pusher-http-ruby': '2.1.0', 'pusher/pusher-signature': 'c7fbceb482c81adc3960bc25ffecd1e1c0ad6542' },
    debian: ['ruby-httpclient', 'ruby-multi-json', 'ruby-http-cookie', 'ruby-domain-name', 'ruby-unf', 'ruby-unf-ext'],
    with: (_, file) => ['/usr/bin/ruby', file],
    env: (software) => ({ RUBYLIB: folders(software).join(':') }),
    set: '`use_tls: false` for a server without TLS; it passes over `scheme`.',
    note: 'From its repository. It has no method for events to a user: publish to `#server-to-user-ID`.',
  });
}

function gems(root) {
  const folder = join(root, 'usr/share/rubygems-integration/all/gems');
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

function go() {
  const program = ({ folder }) => join(folder, 'go_pusher');
  return sdkRow({
    name: 'pusher-http-go',
    group: 'Go',
    program: 'go_pusher.go',
    git: { 'pusher/pusher-http-go': 'v5.1.1' },
    debian: ['golang-1.19-go', 'golang-1.19-src', 'golang-golang-x-crypto-dev', 'golang-golang-x-sys-dev'],
    // Without modules, since those come from elsewhere: the SDK stands where its import looks for it.
    async build({ folder, root, sources }) {
      const place = join(root, 'usr/share/gocode/src/github.com/pusher/pusher-http-go');
      await mkdir(dirname(place), { recursive: true });
      await rename(sources['pusher/pusher-http-go'], place);
      const env = {
        ...process.env,
        GOROOT: join(root, 'usr/lib/go-1.19'),
        GOPATH: join(root, 'usr/share/gocode'),
        GOCACHE: join(folder, 'cache'),
        GO111MODULE: 'off',
        GOFLAGS: '-p=1',
      };
      const file = fileURLToPath(new URL('programs/go_pusher.go', import.meta.url));
      await compile(join(root, 'usr/lib/go-1.19/bin/go'), ['build', '-o', program({ folder }), file], { env });
    },
    with: (software) => [program(software)],
    note: 'From its repository.',
  });
}

function java() {
  const classes = ({ folder }) => join(folder, 'classes');
  const path = (software) => [classes(software), join(software.root, 'usr/share/java/*')].join(':');
  return sdkRow({
    name: 'pusher-http-java',
    group: 'Java',
    program: 'JavaPusher.java',
    git: { 'pusher/pusher-http-java': 'v1.3.5' },
    debian: ['libhttpclient-java', 'libhttpcore-java', 'libcommons-logging-java', 'libcommons-codec-java', 'libgoogle-gson-java'],
    async build(software) {
      const source = join(software.sources['pusher/pusher-http-java'], 'src/main/java');
      // Without PusherAsync, whose HTTP client Debian doesn't have.
      const files = ['com/pusher/rest/Pusher.java', 'com/pusher/rest/util/Prerequisites.java'].map((name) => join(source, name));
      const program = fileURLToPath(new URL('programs/JavaPusher.java', import.meta.url));
      const options = ['-nowarn', '-d', classes(software), '-cp', path(software), '-sourcepath', source];
      await compile('javac', [...options, ...files, program]);
    },
    with: (software) => ['java', '-Xmx64m', '-cp', path(software), 'JavaPusher'],
    note: 'From its repository.',
  });
}
