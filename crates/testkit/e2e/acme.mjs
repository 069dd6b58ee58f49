// Pebble, the ACME server for tests, with a DNS of its own in which every name is this machine.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { end, launch, removeFolder, temporaryFolder } from './cluster/processes.mjs';
import { until } from './cluster/until.mjs';
import { freePort } from './harness.mjs';

const HOST = '127.0.0.1';

/**
 * Starts it. It looks for the domains at `tlsPort` and `httpPort`, and its certificates are valid for `validity` seconds. Stopped and
 * started again, it remembers nothing and has another root.
 */
export async function startAcmeServer({ tlsPort, httpPort, validity = 86_400 }) {
  const server = new AcmeServer(await temporaryFolder('acme'), { tlsPort, httpPort, validity });
  server.port = await freePort();
  await server.start();
  return server;
}

class AcmeServer {
  #child;
  #dns;

  constructor(folder, ports) {
    Object.assign(this, { folder, ...ports });
  }

  /** What a node needs to order from it. */
  get env() {
    return {
      FANFARE_TLS_ACME_DIRECTORY: `https://${HOST}:${this.port}/dir`,
      FANFARE_TLS_ACME_DIRECTORY_CA: join(this.folder, 'cert.pem'),
    };
  }

  /** How many certificates it has issued since its start. */
  get issued() {
    return this.#child.log.match(/Issued certificate serial/g)?.length ?? 0;
  }

  get log() {
    return this.#child.log;
  }

  async start() {
    const [dnsPort, managementPort, unused] = [await freePort(), await freePort(), await freePort()];
    const names = ['-addext', `subjectAltName=IP:${HOST}`, '-addext', 'basicConstraints=critical,CA:FALSE'];
    const subject = ['-subj', `/CN=${HOST}`, ...names];
    const [key, certificate] = ['key.pem', 'cert.pem'].map((name) => join(this.folder, name));
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
    const pebble = {
      listenAddress: `${HOST}:${this.port}`,
      managementListenAddress: `${HOST}:${managementPort}`,
      certificate,
      privateKey: key,
      httpPort: this.httpPort,
      tlsPort: this.tlsPort,
      certificateValidityPeriod: this.validity,
    };
    await writeFile(join(this.folder, 'pebble.json'), JSON.stringify({ pebble }));
    const none = ['-http01', '', '-https01', '', '-tlsalpn01', ''];
    this.#dns = launch('pebble-challtestsrv', [...none, '-dns01', `${HOST}:${dnsPort}`, '-management', `${HOST}:${unused}`, '-defaultIPv6', '']);
    const env = { PATH: process.env.PATH, PEBBLE_VA_NOSLEEP: '1' };
    this.#child = launch('pebble', ['-config', join(this.folder, 'pebble.json'), '-dnsserver', `${HOST}:${dnsPort}`], { env });
    const explain = () => this.log;
    const management = `https://${HOST}:${managementPort}/roots/0`;
    this.root = await until('the ACME server answers', () => fetchText(management, readFileSync(certificate)), { within: 10_000, explain });
  }

  /** Nobody listens on its port any more. */
  async halt() {
    await Promise.all([end(this.#child, 'SIGTERM'), end(this.#dns, 'SIGTERM')]);
  }

  async stop() {
    await this.halt();
    await removeFolder(this.folder);
  }
}

function fetchText(url, ca) {
  return new Promise((resolve) => {
    const asked = get(url, { ca, agent: false }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve(response.statusCode === 200 && text);
    });
    asked.once('error', () => resolve(undefined));
  });
}

/** The certificate that a client of `name` gets and verifies with `ca`, and its open connection; undefined if there is none. */
export function served(port, name, ca) {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port, servername: name, ca, ALPNProtocols: ['http/1.1'] });
    socket.once('secureConnect', () => resolve({ socket, certificate: socket.getPeerCertificate() }));
    socket.once('error', () => resolve(undefined));
  });
}

/** Waits for a certificate that `ca` has signed and whose serial number isn't `after`. */
export async function certificateOf(port, name, ca, { after, within = 30_000, explain = () => '' } = {}) {
  return until(`a certificate of ${name}${after ? ' after the first' : ''}`, async () => {
    const found = await served(port, name, ca);
    found?.socket.destroy();
    return found && found.certificate.serialNumber !== after && found.certificate;
  }, { within, every: 100, explain });
}
