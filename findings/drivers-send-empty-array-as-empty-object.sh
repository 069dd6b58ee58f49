#!/usr/bin/env bash
# An empty array that is passed for a parameter of type json or jsonb is stored as an empty object, by npm pg and by psycopg.
#
# Expected: `[]` fails as `[1]` does, or is JSON.
# Seen with pg 8.23.1 and psycopg 3.3.9 on Postgres 15.18: both write arrays in the syntax of Postgres' own arrays. That of an empty array is
# `{}`, which is JSON as well: an object. pg gives no type with any array, and psycopg none with an empty list, so Postgres takes the type that
# the statement needs. Arrays with elements are refused: `{"1"}` is no JSON. `JSON.stringify` and `Jsonb` avoid it.
set -euo pipefail
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
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent pg@8.23.1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9'

cat >probe.mjs <<'JS'
import pg from 'pg';

const client = new pg.Client({ host: process.argv[2], user: 'postgres' });
await client.connect();
const stored = (value) =>
  client.query('SELECT $1::jsonb::text AS stored', [value]).then(({ rows }) => rows[0].stored, ({ message }) => message);
for (const value of [[1], [], JSON.stringify([])]) console.log('pg', JSON.stringify(value), '->', await stored(value));
await client.end();
JS
cat >probe.py <<'PYTHON'
import sys

import psycopg
from psycopg.types.json import Jsonb

with psycopg.connect(host=sys.argv[1], user="postgres", autocommit=True) as connection:
    connection.execute("CREATE FUNCTION stored(data jsonb) RETURNS text LANGUAGE sql AS 'SELECT data::text'")
    for value in [1], [], Jsonb([]):
        try:
            [stored] = connection.execute("SELECT stored(%s)", [value]).fetchone()
        except psycopg.Error as error:
            stored = str(error).split("\n")[0]
        print("psycopg", value, "->", stored)
PYTHON
{ node probe.mjs "$folder/server" && venv/bin/python probe.py "$folder/server"; } | tee seen
if grep -qxF 'pg [] -> {}' seen && grep -qxF 'psycopg [] -> {}' seen; then
  echo 'seen: an empty array is an empty object'
else
  echo 'changed: an empty array is something else'
  exit 1
fi
