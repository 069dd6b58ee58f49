import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { certificateOf, startAcmeServer } from '../acme.mjs';
import { freePort } from '../harness.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const DOMAIN = 'ws.example.test';
const VALIDITY = 60;

let cluster, acme, balancer;
const ports = {};

/** Where the ACME server looks: in front of the nodes at `targets`, in turn. While `held`, its connections wait. */
async function startFront(targets) {
  const front = { targets, held: false, waiting: [], turn: 0, port: await freePort() };
  const forward = (near) => {
    front.turn += 1;
    const far = connect(front.targets[front.turn % front.targets.length], '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
      one.pipe(other);
    }
  };
  front.let = () => {
    front.held = false;
    front.waiting.splice(0).forEach((near) => near.destroy());
  };
  const server = createServer((near) => (front.held ? front.waiting.push(near) : forward(near))).listen(front.port, '127.0.0.1');
  await once(server, 'listening');
  front.stop = () => server.close();
  return front;
}

before(async () => {
  for (const name of ['A', 'B']) ports[name] = await freePort();
  balancer = await startFront(Object.values(ports));
  acme = await startAcmeServer({ tlsPort: balancer.port, httpPort: await freePort(), validity: VALIDITY });
  // Nobody gets an answer of the first order, whose node is killed meanwhile.
  balancer.held = true;
  cluster = await startCluster({
    nodes: 2,
    env: { FANFARE_TLS_ACME_DOMAINS: DOMAIN, FANFARE_TLS_ACME_CHALLENGE: 'tls-alpn-01', ...acme.env },
    ownEnv: (name) => ({ FANFARE_TLS_LISTEN: `127.0.0.1:${ports[name]}` }),
  });
});

after(async () => {
  await cluster?.stop();
  balancer?.stop();
  await acme?.stop();
});

test('when the node that orders is killed, the other one orders, and both serve one certificate, also after a renewal', async () => {
  const [a, b] = cluster.nodes;
  const explain = () => `${a.log.slice(-3000)}\n${b.log.slice(-3000)}\n${acme.log.slice(-3000)}`;
  await until('the ACME server looks at the domain', () => balancer.waiting.length > 0, { within: 30_000, explain });
  const orders = (node) => /certificate order begins/.test(node.log);
  await until('one node orders', () => orders(a) || orders(b), { explain });
  assert.ok(!(orders(a) && orders(b)), 'both order');
  const killed = orders(a) ? a : b;
  const survivor = killed === a ? b : a;
  await killed.kill();
  balancer.targets = [ports[survivor.name]];
  balancer.let();
  const first = await certificateOf(ports[survivor.name], DOMAIN, acme.root, { within: 90_000, explain });
  await killed.start();
  await killed.ready();
  balancer.targets = Object.values(ports);
  const same = await certificateOf(ports[killed.name], DOMAIN, acme.root, { explain });
  assert.equal(same.serialNumber, first.serialNumber);
  assert.equal(acme.issued, 1);

  const renewed = await Promise.all(
    cluster.nodes.map(({ name }) => certificateOf(ports[name], DOMAIN, acme.root, { after: first.serialNumber, within: VALIDITY * 1000, explain })),
  );
  assert.equal(renewed[0].serialNumber, renewed[1].serialNumber);
  assert.equal(acme.issued, 2);
});
