#!/usr/bin/env bash
# SQLite 3.54.1 (PyPI apsw 3.54.1.0): the time to prepare a statement grows with the square of the number of its `$1` parameters.
#
# Expected: `$1`, which Postgres needs and SQLite takes as well, costs in SQLite what `?` and `?1` cost, so one text of an insert of many
# rows serves both databases.
# Seen: `$1` is a name to SQLite, and each name is looked for among all before it. 4,000 parameters take about 90 ms to prepare instead of
# 0.3 ms, and twice as many take four times as long. `?` and `?1` take time in proportion. It is the number in one statement that
# counts: statements with a few dozen `$1` show nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import time

import apsw

COLUMNS = 10
connection = apsw.Connection(":memory:")
connection.execute("create table wide (" + ", ".join(f"c{n}" for n in range(COLUMNS)) + ")")


def milliseconds(parameter, rows):
    names = [parameter(n + 1) for n in range(rows * COLUMNS)]
    groups = ["(" + ", ".join(names[at : at + COLUMNS]) + ")" for at in range(0, len(names), COLUMNS)]
    # Explained, so that nothing but preparing takes time.
    text = "explain insert into wide values " + ", ".join(groups)
    values = [0] * len(names) if names[0][0] == "?" else {name[1:]: 0 for name in names}
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        connection.cursor().execute(text, values, can_cache=False)
        best = min(best, time.perf_counter() - began)
    return best * 1000


print("SQLite", apsw.sqlite_lib_version())
took = {}
for name, parameter in {"?": lambda n: "?", "?1": lambda n: f"?{n}", "$1": lambda n: f"${n}"}.items():
    took[name] = [milliseconds(parameter, rows) for rows in (200, 400, 800)]
    print(f"{name:3} 2000, 4000, 8000 parameters:", *(f"{one:.2f} ms" for one in took[name]))
assert took["$1"][1] > 20 * took["?"][1], "$1 costs much more than ?"
assert took["$1"][2] > 3 * took["$1"][1], "twice as many $1 take more than three times as long"
assert took["?"][2] < 3 * took["?"][1] and took["?1"][2] < 3 * took["?1"][1], "the others grow in proportion"
PYTHON
