// Tcl's WebSocket client (tcllib), which sends `Connection: close` and `Connection: Upgrade` on two lines.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { startServer } from './harness.mjs';

const CLIENT = `
package require websocket
proc handle {sock type msg} {
  if {$type ne "text"} return
  puts $msg
  if {[string match *subscription_succeeded* $msg]} { exit 0 }
  if {[string match *connection_established* $msg]} {
    websocket::send $sock text {{"event":"pusher:subscribe","data":{"channel":"news"}}}
  }
}
after 20000 { exit 1 }
websocket::open [lindex $argv 0] handle
vwait forever
`;

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

test('a client that asks to close and to upgrade on two lines connects and subscribes', async () => {
  const url = `${server.url.replace('http', 'ws')}/app/${server.app.key}?protocol=7&client=tcl`;
  const running = promisify(execFile)('tclsh', ['/dev/stdin', url]);
  running.child.stdin.end(CLIENT);
  const { stdout } = await running;
  assert.match(stdout, /"event":"pusher_internal:subscription_succeeded","channel":"news"/);
});
