#!/bin/sh
# Give charon its connections, as soon as it listens: $1 is the folder with its files, else the guest's own.
folder=${1:-/run/guest}
export STRONGSWAN_CONF="$folder/strongswan.conf"
tries=0
while [ ! -S /run/charon.vici ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "charon does not listen"; exit 1; }
    sleep 0.1
done
exec swanctl --load-all --file "$folder/swanctl.conf"
