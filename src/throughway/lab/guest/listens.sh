#!/bin/sh
# End well when something listens on a TCP port: $1 is the port.
tries=0
while [ -z "$(ss -Hltn "sport = :$1")" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "nothing listens on port $1"; exit 1; }
    sleep 0.1
done
