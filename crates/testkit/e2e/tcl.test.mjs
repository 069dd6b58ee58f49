// Tcl's WebSocket client (tcllib), which sends `Connection: close` and `Connection: Upgrade` on two lines.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
let folder;
before(async () => {
  server = await startServer();
  folder = await mkdtemp(join(tmpdir(), 'fanfare-tcl-'));
});
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

test('a client that asks to close and to upgrade on two lines connects and subscribes', async () => {
  const url = `${server.url.replace('http', 'ws')}/app/${server.app.key}?protocol=7&client=tcl`;
  const script = join(folder, 'client.tcl');
  await writeFile(script, CLIENT);
  const { stdout } = await promisify(execFile)('tclsh', [script, url]);
  assert.match(stdout, /"event":"pusher_internal:subscription_succeeded","channel":"news"/);
});
