import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get } from 'node:http';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { certificateOf, served, startAcmeServer } from './acme.mjs';
import { adminApi, PASSWORD } from './dashboard.mjs';
import { until } from './cluster/until.mjs';
import { freePort, startServer } from './harness.mjs';

const DOMAIN = 'ws.example.test';

/** A node whose certificate comes from an ACME server. */
async function start(t, { validity, env = {} } = {}) {
  const [tlsPort, httpPort] = [await freePort(), await freePort()];
  const acme = await startAcmeServer({ tlsPort, httpPort, validity });
  t.after(() => acme.stop());
  const server = await startServer({
    env: {
      FANFARE_OWNER_PASSWORD: PASSWORD,
      FANFARE_TLS_LISTEN: `127.0.0.1:${tlsPort}`,
      FANFARE_TLS_ACME_DOMAINS: `${DOMAIN}, b.example.test`,
      ...acme.env,
      ...env,
    },
    port: httpPort,
  });
  t.after(() => server.stop());
  return { acme, server, tlsPort };
}

for (const challenge of ['tls-alpn-01', 'http-01']) {
  test(`a node orders its certificate, proves its domains by ${challenge}, and has it again after a restart`, async (t) => {
    const { acme, server, tlsPort } = await start(t, { env: { FANFARE_TLS_ACME_CHALLENGE: challenge } });
    const explain = () => `${server.log}\n${acme.log}`;
    const { serialNumber, subjectaltname } = await certificateOf(tlsPort, DOMAIN, acme.root, { explain });
    assert.deepEqual(subjectaltname.split(', ').sort(), ['DNS:b.example.test', `DNS:${DOMAIN}`]);
    const other = challenge === 'http-01' ? 'tls-alpn-01' : 'http-01';
    assert.ok(!acme.log.includes(`Attempting to validate ${other}`), acme.log);
    const admin = await adminApi(server.url);
    const { certificates: kept } = await admin('GET', '/server/certificates');
    assert.equal(kept[0].serial.toUpperCase().replace(/^0+/, ''), serialNumber.replace(/^0+/, ''));

    await server.end();
    await server.start();
    const again = await served(tlsPort, DOMAIN, acme.root);
    again.socket.destroy();
    assert.equal(again.certificate.serialNumber, serialNumber);
    assert.equal(acme.issued, 1);
    // Nothing is answered that was not asked for.
    const status = await new Promise((resolve) => get(`${server.url}/.well-known/acme-challenge/abc`, (response) => resolve(response.resume().statusCode)));
    assert.equal(status, 404);
  });
}

test('a certificate is renewed in time, and stays while the ACME server is away', async (t) => {
  const { acme, server, tlsPort } = await start(t, { validity: 15 });
  const explain = () => `${server.log}\n${acme.log}`;
  const first = await certificateOf(tlsPort, DOMAIN, acme.root, { explain });
  const { socket } = await served(tlsPort, DOMAIN, acme.root);
  // A connection that has asked for nothing would be closed soon.
  socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'data');
  const second = await certificateOf(tlsPort, DOMAIN, acme.root, { after: first.serialNumber, explain });
  assert.ok(new Date(second.valid_from) < new Date(first.valid_to), 'it was renewed too late');
  assert.ok(!socket.destroyed, 'the renewal has closed a connection');
  socket.destroy();

  await acme.halt();
  await until('a renewal fails', () => /could not be ordered: the one before stays/.test(server.log), { within: 30_000, explain });
  // The log line says which one is served; whether it has expired meanwhile is for the client to judge.
  const still = await new Promise((resolve) => {
    const probe = connect({ host: '127.0.0.1', port: tlsPort, servername: DOMAIN, rejectUnauthorized: false });
    probe.once('secureConnect', () => {
      resolve(probe.getPeerCertificate().subjectaltname);
      probe.destroy();
    });
  });
  assert.match(still, /ws\.example\.test/);
});

test('a domain that does not lead here is said in words, and the node serves on', async (t) => {
  const tlsPort = await freePort();
  const nobody = await freePort();
  const acme = await startAcmeServer({ tlsPort: nobody, httpPort: nobody });
  t.after(() => acme.stop());
  const env = { FANFARE_TLS_LISTEN: `127.0.0.1:${tlsPort}`, FANFARE_TLS_ACME_DOMAINS: DOMAIN, ...acme.env };
  const server = await startServer({ env });
  t.after(() => server.stop());
  const told = /did not accept the names: ws\.example\.test: .*challenge tls-alpn-01; port 443 of each domain must lead/;
  await until('why is told', () => told.test(server.log), { within: 30_000, explain: () => `${server.log}\n${acme.log}` });
  assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
});
