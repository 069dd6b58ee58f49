#!/usr/bin/env bash
# A stream of docs/any-client.md with curl, opened again with the last id.
stream=$(sed 's/.*"stream":"\([^"]*\)".*/\1/' <<<"$TARGET")
id=
while :; do
  while IFS= read -r line; do
    case $line in
      'data: '*) echo "${line#data: }" ;;
      'id: '*) id=${line#id: } ;;
    esac
  done < <(curl -sN ${id:+-H "Last-Event-ID: $id"} "$stream")
  echo ended
  sleep 1
done
