// Unmodified clients over TLS, through the proxies that are for many clients or several nodes.
import { testClients, testIdleConnections, testSeveralNodes } from './proxy-suite.mjs';

const NAMES = ['nginx', 'caddy', 'haproxy'];
NAMES.forEach(testClients);
testIdleConnections('nginx', [
  ['proxy_read_timeout 300s;', 'proxy_read_timeout 3s;'],
  ['proxy_send_timeout 300s;', 'proxy_send_timeout 3s;'],
]);
testIdleConnections('haproxy', [['timeout tunnel 300s', 'timeout tunnel 3s']]);
NAMES.forEach(testSeveralNodes);
