#!/usr/bin/env bash
# A Postgres standby that is promoted soon after an unlogged sequence was created can't use the sequence any more.
#
# Expected: unlogged sequences begin anew after a promotion, as unlogged tables are empty.
# Seen with Postgres 15.18: `nextval` fails with `bad magic number in sequence "s": 00000000`, for good, while an unlogged table of
# the same moment works. Replay leaves the sequence's first page in memory, and the promotion copies the file. A checkpoint on the
# primary and a restartpoint on the standby before the promotion avoid it.
set -euo pipefail
programs=/usr/lib/postgresql/15/bin
[[ -x $programs/postgres ]] || apt-get install -q -y --no-install-recommends postgresql-15 >/dev/null
folder=$(mktemp -d)
chown postgres "$folder"
cd "$folder"
as_postgres() { runuser -u postgres -- "$@"; }
stop() { as_postgres "$programs/pg_ctl" -D "$1" -m immediate stop >/dev/null 2>&1 || true; }
trap 'for one in primary early late; do stop "$folder/$one"; done; rm -rf "$folder"' EXIT
start() {
  local options="-p $2 -c listen_addresses=127.0.0.1 -c unix_socket_directories="
  as_postgres "$programs/pg_ctl" -D "$folder/$1" -w -l "$folder/$1.log" -o "$options" start >/dev/null
}
ask() { psql -h 127.0.0.1 -p "$1" -U postgres -XAtqc "$2" 2>&1 || true; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
primary=$(free_port) early=$(free_port) late=$(free_port)

as_postgres "$programs/initdb" -D "$folder/primary" -A trust >/dev/null
start primary "$primary"
for standby in early late; do
  as_postgres "$programs/pg_basebackup" -h 127.0.0.1 -p "$primary" -U postgres -D "$folder/$standby" -R -c fast
  start "$standby" "${!standby}"
done
ask "$primary" 'SHOW server_version'
ask "$primary" 'CREATE UNLOGGED SEQUENCE s; CREATE UNLOGGED TABLE t (a int PRIMARY KEY)'
replayed() {
  local end
  end=$(ask "$primary" 'SELECT pg_current_wal_lsn()')
  until [[ $(ask "$1" "SELECT pg_last_wal_replay_lsn() >= '$end'") == t ]]; do sleep 0.1; done
}
replayed "$early"
ask "$early" 'SELECT pg_promote()' >/dev/null
broken=$(ask "$early" "SELECT nextval('s')")
table=$(ask "$early" 'INSERT INTO t VALUES (1) RETURNING a')
echo "promoted at once: sequence: $broken; table: $table"
ask "$primary" CHECKPOINT
replayed "$late"
ask "$late" CHECKPOINT
ask "$late" 'SELECT pg_promote()' >/dev/null
whole=$(ask "$late" "SELECT nextval('s')")
echo "promoted after a restartpoint: sequence: $whole"
[[ $broken == *'bad magic number'* && $table == 1 && $whole == 1 ]]
