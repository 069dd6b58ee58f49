# Varnish 7 in front of Fanfare, one node or several, as /etc/varnish/default.vcl. Change what is marked CHANGE. A line that begins with
# `#:` is an option: take the `#:` away. Varnish has no TLS: hitch (deploy/hitch.conf) or stunnel (deploy/stunnel.conf) in front
# of it terminates it and tells it the client's address by PROXY protocol. `systemctl edit varnish`:
#
#   [Service]
#   ExecStart=
#   ExecStart=/usr/sbin/varnishd -a http=:80,HTTP -a tls=127.0.0.1:6086,PROXY -f /etc/varnish/default.vcl -s malloc,64m \
#     -p feature=+http2 -p pipe_timeout=300 -p send_timeout=86400 -p idle_send_timeout=300 -p thread_pool_max=5000
#
# On Fanfare's side, so that it believes what is said here of clients: http.trusted_proxies = "127.0.0.1"
#
# Varnish holds a thread for each WebSocket and each stream: thread_pools x thread_pool_max, 2 x 5000, is how many there may be. By
# default it ends a WebSocket after a minute of silence (pipe_timeout), and an answer after ten minutes in all (send_timeout): streams of
# the fallback and exports of the audit log. Not 0 for send_timeout, which ends every answer at once.
vcl 4.1;

import directors;
import std;

# A node that is stopping, or does not hear the others, says no; the connections it has stay until it closes them.
probe ready { .url = "/readyz"; .interval = 1s; .timeout = 2s; .window = 1; .threshold = 1; .initial = 1; }
# It has its sessions still, and ends them itself.
probe living { .url = "/healthz"; .interval = 1s; .timeout = 2s; .window = 1; .threshold = 1; .initial = 1; }

# Each node twice. A poll of the fallback is answered within 25 s, and a stream says something as often; the default would wait for 60 s.
# Idle connections to Fanfare end after 60 s (backend_idle_timeout), before it ends them (http.header_timeout, 75 s).
# CHANGE
backend ready1 { .host = "127.0.0.1"; .port = "6001"; .probe = ready; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }
backend living1 { .host = "127.0.0.1"; .port = "6001"; .probe = living; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }
#: backend ready2 { .host = "127.0.0.1"; .port = "6002"; .probe = ready; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }
#: backend living2 { .host = "127.0.0.1"; .port = "6002"; .probe = living; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }
#: backend ready3 { .host = "127.0.0.1"; .port = "6003"; .probe = ready; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }
#: backend living3 { .host = "127.0.0.1"; .port = "6003"; .probe = living; .connect_timeout = 3s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; }

# CHANGE: your office, your VPN
acl operators {
  "127.0.0.0"/8;
}

sub vcl_init {
  new nodes = directors.random();
  nodes.add_backend(ready1, 1);
  #: nodes.add_backend(ready2, 1);
  #: nodes.add_backend(ready3, 1);
  # A session of the HTTP fallbacks lives on one node, whichever its name makes it.
  new sessions = directors.shard();
  sessions.add_backend(living1);
  #: sessions.add_backend(living2);
  #: sessions.add_backend(living3);
  sessions.reconfigure();
  new alive = directors.random();
  alive.add_backend(living1, 1);
  #: alive.add_backend(living2, 1);
  #: alive.add_backend(living3, 1);
}

sub vcl_recv {
  # Who came through the TLS terminator came to the socket that only it can reach.
  if (local.socket != "tls") {
    # A plain ws:// is lost here: clients are to use TLS from the start (forceTLS: true).
    return (synth(308));
  }
  # Clients and backends need these, whoever watches from outside needs the probes. All else is for operators, /api/v1 and /docs today:
  # what is new here one day is not public by accident. With http.base_path = "/realtime" it begins with ^/realtime/ instead of ^/.
  if (req.url !~ "^/((app|apps|pusher/app|socket\.io|sse|users|ws)([/?]|$)|sdk/[a-z.-]+([?]|$)|(healthz|readyz|up|ready)$)" && client.ip !~ operators) {
    return (synth(403));
  }
  # Varnish has added the client's address to what the client says of itself, which ends here. Behind another proxy leave this out, and
  # name that one in http.trusted_proxies as well.
  set req.http.X-Forwarded-For = client.ip;
  set req.http.X-Forwarded-Proto = "https";

  if (req.url ~ "/app/[^/]+/[A-Za-z0-9]+/[A-Za-z0-9]+/xhr") {
    set req.http.X-Session = regsub(req.url, "^.*/app/[^/]+/([A-Za-z0-9]+/[A-Za-z0-9]+)/xhr.*$", "\1");
    set req.backend_hint = sessions.backend(by=KEY, key=sessions.key(req.http.X-Session));
    unset req.http.X-Session;
  } else if (req.url ~ "^/socket\.io([/?]|$)") {
    # Until Socket.IO has its WebSocket, all requests of an address go to one node: the first has no name yet.
    set req.backend_hint = sessions.backend(by=KEY, key=sessions.key("" + client.ip));
  } else if (std.healthy(nodes.backend())) {
    set req.backend_hint = nodes.backend();
  } else {
    # Where no node is ready, one that lives says so better than a 503 from here: clients come back after a second, not after fifteen.
    set req.backend_hint = alive.backend();
  }
  if (req.http.Upgrade ~ "(?i)^websocket$") {
    return (pipe);
  }
  # Nothing is cached: what may be is in the client's cache already.
  return (pass);
}

sub vcl_pipe {
  # Varnish would ask for the end of the connection instead.
  set bereq.http.Upgrade = req.http.Upgrade;
  set bereq.http.Connection = "Upgrade";
}

sub vcl_backend_response {
  # With do_gzip nothing of a stream would leave before its end.
  set beresp.do_gzip = false;
  set beresp.do_stream = true;
}

sub vcl_synth {
  if (resp.status == 308) {
    set resp.http.Location = "https://" + req.http.Host + req.url;
    set resp.reason = "Permanent Redirect";
    return (deliver);
  }
}
