#!/usr/bin/env bash
# Laravel stores the number 0 where `json_encode` could not encode a value.
#
# Expected: a statement whose JSON is `false`, as `json_encode` answers for a value that it cannot encode, fails, or stores `false`.
# Seen with illuminate/database 8.83.26 and PHP 8.2.36 (Debian php-illuminate-database) on Postgres 15.18: `prepareBindings` makes an integer of
# each boolean, and Postgres takes `0` for JSON. So an average of nothing (`NAN`) or a name in Latin-1 in the data becomes a 0 without a word.
# With `JSON_THROW_ON_ERROR` it is an exception. PDO by itself binds `false` as an empty text, which Postgres refuses.
set -euo pipefail
if ! php -r 'exit(extension_loaded("pdo_pgsql") && is_file("/usr/share/php/Illuminate/Database/autoload.php") ? 0 : 1);' 2>/dev/null; then
  apt-get install -q -y --no-install-recommends php-cli php-pgsql php-illuminate-database >/dev/null
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

cat >probe.php <<'PHP'
<?php
require '/usr/share/php/Illuminate/Database/autoload.php';
$capsule = new Illuminate\Database\Capsule\Manager;
$server = ['driver' => 'pgsql', 'host' => $argv[1], 'port' => 5432, 'database' => 'postgres', 'username' => 'postgres'];
$capsule->addConnection($server);
$connection = $capsule->getConnection();
$connection->statement('CREATE TABLE events (data jsonb NOT NULL)');
echo 'PHP ', PHP_VERSION, "\n";
foreach (['an order' => ['id' => 1], 'no average' => ['average' => NAN], 'Latin-1' => ['name' => "Zo\xeb"]] as $name => $data) {
    $connection->statement('INSERT INTO events VALUES (?)', [json_encode($data)]);
    echo $name, ': ', $connection->selectOne('DELETE FROM events RETURNING data')->data, "\n";
}
try {
    $connection->getPdo()->prepare('INSERT INTO events VALUES (?)')->execute([false]);
    echo "PDO stores it\n";
} catch (PDOException) {
    echo "PDO by itself: refused\n";
}
PHP
php probe.php "$folder/server" | tee seen
if grep -qx 'no average: 0' seen && grep -qx 'Latin-1: 0' seen && grep -q 'refused' seen; then
  echo 'seen: 0 is stored'
else
  echo 'changed: it is not'
  exit 1
fi
