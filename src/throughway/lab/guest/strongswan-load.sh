#!/bin/sh
# Give charon its connections, as soon as it listens.
export STRONGSWAN_CONF=/run/guest/strongswan.conf
tries=0
while [ ! -S /run/charon.vici ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "charon does not listen"; exit 1; }
    sleep 0.1
done
exec swanctl --load-all --file /run/guest/swanctl.conf
