// What programs that grade TLS say of the server's, as it comes. `scripts/test` installs them; where one is missing, its test is skipped.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { freePort, startServer } from './harness.mjs';

const run = promisify(execFile);
const HOST = '127.0.0.1';
const TIMEOUT = 60_000;
/** Of all keys that certificates usually have. */
const KEYS = {
  ECDSA: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
  RSA: ['-newkey', 'rsa:2048'],
};
/** What no client is to be offered. */
const WEAK = /NULL|EXPORT|anon|RC4|3DES|\bDES\b|MD5|_CBC_|-CBC-|TLS_RSA_WITH|^(AES|CAMELLIA|SEED|IDEA)/;

let folder;
const servers = {};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-scanners-'));
  for (const [kind, key] of Object.entries(KEYS)) {
    const files = ['crt', 'key'].map((ending) => join(folder, `${kind}.${ending}`));
    const names = ['-subj', '/CN=localhost', '-addext', `subjectAltName=DNS:localhost,IP:${HOST}`];
    execFileSync('openssl', ['req', '-x509', ...key, '-nodes', '-days', '2', ...names, '-out', files[0], '-keyout', files[1]], { stdio: 'ignore' });
    const tlsPort = await freePort();
    servers[kind] = await startServer({
      env: { FANFARE_TLS_CERTIFICATE: files[0], FANFARE_TLS_KEY: files[1], FANFARE_TLS_LISTEN: `${HOST}:${tlsPort}` },
    });
    servers[kind].tlsPort = tlsPort;
  }
});
after(async () => {
  await Promise.all(Object.values(servers).map((server) => server.stop()));
  await rm(folder, { recursive: true, force: true });
});

const missing = (program) => spawnSync(program, ['--version']).error && `${program} is not installed`;

for (const kind of Object.keys(KEYS)) {
  test(`nmap finds nothing below A with an ${kind} key`, { skip: missing('nmap') }, async (t) => {
    const port = String(servers[kind].tlsPort);
    const { stdout } = await run('nmap', ['-Pn', '-n', '-p', port, '--script', 'ssl-enum-ciphers', '-oX', '-', HOST], { timeout: TIMEOUT });
    const versions = [...stdout.matchAll(/<table key="((?:TLS|SSL)v[\d.]+)">/g)].map(([, version]) => version);
    assert.deepEqual(versions, ['TLSv1.2', 'TLSv1.3'], stdout);
    const grades = [...stdout.matchAll(/<elem key="strength">(\w+)<\/elem>/g)].map(([, grade]) => grade);
    const names = [...stdout.matchAll(/<elem key="name">((?:TLS|SSL)_\w+)<\/elem>/g)].map(([, name]) => name);
    t.diagnostic(names.join(', '));
    assert.ok(names.length >= 6 && grades.length === names.length, stdout);
    assert.deepEqual([...new Set(grades)], ['A'], stdout);
    for (const name of names) assert.doesNotMatch(name, WEAK);
    assert.match(stdout, /<elem key="least strength">A<\/elem>|least strength: A/);
    assert.doesNotMatch(stdout, /key="warnings"/, stdout);
  });

  test(`sslscan finds no weak protocol, cipher or group with an ${kind} key`, { skip: missing('sslscan') }, async (t) => {
    const target = `${HOST}:${servers[kind].tlsPort}`;
    const { stdout } = await run('sslscan', ['--xml=-', target], { timeout: TIMEOUT });
    const all = (tag) => [...stdout.matchAll(new RegExp(`<${tag} ([^>]*?)/?>`, 'g'))].map(([, text]) => attributes(text));
    const offered = all('protocol').filter(({ enabled }) => enabled === '1');
    assert.deepEqual(offered.map(({ type, version }) => `${type} ${version}`).sort(), ['tls 1.2', 'tls 1.3'], stdout);
    const ciphers = all('cipher');
    t.diagnostic(ciphers.map(({ cipher }) => cipher).join(', '));
    assert.ok(ciphers.length >= 6, stdout);
    for (const { cipher, strength, bits } of ciphers) {
      assert.ok(['strong', 'acceptable'].includes(strength) && Number(bits) >= 128, `${cipher} is ${strength}`);
      assert.doesNotMatch(cipher, WEAK);
    }
    for (const { name, bits } of all('group')) assert.ok(Number(bits) >= 112, `the group ${name} has ${bits} bits`);
    assert.deepEqual(all('renegotiation').map(({ supported }) => supported), ['0'], stdout);
    for (const { supported } of all('compression')) assert.equal(supported, '0', stdout);
    for (const { vulnerable } of all('heartbleed')) assert.equal(vulnerable, '0');
  });

  test(`nothing is signed with SHA-1 by an ${kind} key`, async () => {
    const dial = (digest) => {
      const offers = ['-tls1_2', '-cipher', 'ALL:@SECLEVEL=0', '-sigalgs', `${kind}+${digest}`];
      return run('openssl', ['s_client', ...offers, '-connect', `${HOST}:${servers[kind].tlsPort}`], { timeout: TIMEOUT });
    };
    for (const digest of ['SHA256', 'SHA1']) {
      const dialled = dial(digest);
      dialled.child.stdin.end();
      if (digest === 'SHA256') await dialled;
      else await assert.rejects(dialled, /handshake failure/);
    }
  });
}

function attributes(text) {
  return Object.fromEntries([...text.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
}
