#!/usr/bin/env bash
# npm runs `prepare` of a package that is installed from its folder, but installs no devDependencies there first.
#
# Expected: like a package from git, whose devDependencies npm installs before it runs `prepare`; or no `prepare` at all.
# Seen with npm 11.21.1: `npm install ../package` links the folder and runs its `prepare`, which fails where the build needs a
# devDependency that nobody has installed in that folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir npm package project
(cd npm && npm init -y >/dev/null && npm install --ignore-scripts --no-audit --no-fund --silent npm@11.21.1)
npm() { node "$folder/npm/node_modules/npm/bin/npm-cli.js" "$@"; }
cat >package/package.json <<'JSON'
{
  "name": "linked",
  "version": "1.0.0",
  "scripts": { "prepare": "node -e \"require('is-number')\"" },
  "devDependencies": { "is-number": "7.0.0" }
}
JSON
echo '{ "name": "project", "private": true }' >project/package.json
echo "node $(node --version), npm $(npm --version)"
cd project
if npm install --no-audit --no-fund ../package >output 2>&1; then
  echo 'changed: prepare found the devDependency, or was not run'
  exit 1
fi
grep -m 1 "Cannot find module 'is-number'" output
echo 'seen: prepare was run in the linked folder without its devDependencies'
