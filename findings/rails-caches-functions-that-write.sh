#!/usr/bin/env bash
# Within a request, ActiveRecord does not call a function of the database again that `select_value` called with the same arguments, even if it
# writes, and even in another transaction.
#
# Expected: two calls store two rows.
# Seen with ActiveRecord 6.1.7 (Debian ruby-activerecord) on Postgres 15.18: one row. In a request the query cache is on, as
# `ActiveRecord::Base.cache` has it here. It takes every statement of `select_value`, `select_rows` and `select_all` for one that only reads.
# Committing does not clear the cache. `execute` and `exec_query` are not cached.
set -euo pipefail
if ! /usr/bin/ruby -e 'require "active_record"; require "pg"' 2>/dev/null; then
  apt-get install -q -y --no-install-recommends ruby-activerecord ruby-pg >/dev/null
fi
folder=$(mktemp -d)
postgres() { if ((EUID == 0)); then runuser -u postgres -- "$@"; else "$@"; fi; }
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
trap 'postgres "$bin/pg_ctl" stop -s -m immediate -D "$folder/server/data" || true; rm -rf "$folder"' EXIT
chmod 755 "$folder"
mkdir "$folder/server"
((EUID != 0)) || chown postgres "$folder/server"
cd "$folder"
postgres "$bin/initdb" -D server/data -U postgres -A trust --no-sync >/dev/null
postgres "$bin/pg_ctl" start -w -s -D server/data -l server/log -o "-c listen_addresses= -c unix_socket_directories=$folder/server"

cat >probe.rb <<'RUBY'
require "active_record"

ActiveRecord::Base.establish_connection(adapter: "postgresql", host: ARGV.first, username: "postgres")
connection = ActiveRecord::Base.connection
connection.execute(<<~SQL)
  CREATE TABLE events (event text);
  CREATE FUNCTION publish(event text) RETURNS void LANGUAGE sql AS 'INSERT INTO events VALUES ($1)';
SQL
puts "ActiveRecord #{ActiveRecord.version}"
stored = %i[select_value execute].map do |call|
  connection.execute("DELETE FROM events")
  ActiveRecord::Base.cache do
    2.times { ActiveRecord::Base.transaction { connection.public_send(call, "SELECT publish('created')") } }
  end
  count = connection.execute("SELECT count(*) FROM events").getvalue(0, 0)
  puts "two transactions with #{call}: #{count} stored"
  count
end
exit stored == [1, 2]
RUBY
if /usr/bin/ruby -W0 probe.rb "$folder/server"; then
  echo 'seen: the second call is answered from the cache'
else
  echo 'changed: it is not'
  exit 1
fi
