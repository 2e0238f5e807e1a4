#!/bin/sh
# End well when something listens on a port: $1 is the port, $2 is "udp" for a UDP port.
kind=t
[ "${2:-tcp}" = tcp ] || kind=u
tries=0
while [ -z "$(ss "-Hln$kind" "sport = :$1")" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "nothing listens on port $1"; exit 1; }
    sleep 0.1
done
