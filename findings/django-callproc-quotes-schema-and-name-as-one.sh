#!/usr/bin/env bash
# In Django, `cursor.callproc` cannot call a function of another schema with psycopg 3, and can with psycopg 2.
#
# Expected: `callproc("outbox.publish", …)` calls that function with both, as Django supports both.
# Seen with Django 5.2.19, psycopg 3.3.9 and psycopg2 2.9.13 on Postgres 15.18: psycopg 3 has no `callproc`, so Django writes the statement itself and
# quotes the name as one: "function outbox.publish(unknown) does not exist" of the schemas in the search path. `cursor.execute("SELECT …")`
# works with both.
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
cat >probe.py <<'PYTHON'
import sys

import django
from django import db
from django.conf import settings

server = {"ENGINE": "django.db.backends.postgresql", "HOST": sys.argv[1], "NAME": "postgres", "USER": "postgres"}
settings.configure(DATABASES={"default": server})
django.setup()
with db.connection.cursor() as cursor:
    cursor.execute("CREATE SCHEMA IF NOT EXISTS outbox")
    cursor.execute("CREATE OR REPLACE FUNCTION outbox.publish(event text) RETURNS text LANGUAGE sql AS 'SELECT event'")
    try:
        cursor.callproc("outbox.publish", ["created"])
        answer = cursor.fetchall()
    except db.ProgrammingError as error:
        answer = str(error).split("\n")[0]
driver = db.connection.Database
print("Django", django.get_version(), driver.__name__, driver.__version__, "->", answer)
PYTHON
for driver in 'psycopg[binary]==3.3.9' psycopg2-binary==2.9.13; do
  python3 -m venv --clear venv
  venv/bin/pip install --quiet --disable-pip-version-check django==5.2.19 "$driver"
  venv/bin/python probe.py "$folder/server" | tee -a seen
done
if grep -q 'psycopg 3.*does not exist' seen && grep -q "psycopg2 .*created" seen; then
  echo 'seen: only psycopg 2 finds the function'
else
  echo 'changed: both do, or neither'
  exit 1
fi
