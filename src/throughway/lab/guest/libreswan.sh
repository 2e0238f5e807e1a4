#!/bin/sh
# libreswan: $1 is the folder that has it, $2 the folder with ipsec.conf and ipsec.secrets, then its connections; with
# "start" in $3 they are begun, with "wait" they are waited for. It writes "ready" when they are loaded.
#
# It runs in a mount namespace of its own, with a /run of its own, so that several can run in one guest.
set -e
from=$1
settings=$2
how=$3
shift 3
mount -t overlay -o "lowerdir=$from/usr:/usr" overlay /usr
own=$(mktemp -d /run/libreswan-XXXXXX)
mkdir -p "$own/guest" "$own/pluto"
mount --bind /run/guest "$own/guest"
mount --rbind "$own" /run
mkdir -p /var/lib/ipsec /etc/ipsec.d/policies
mount -t tmpfs tmpfs /var/lib/ipsec
mkdir /var/lib/ipsec/nss
certutil -N -d sql:/var/lib/ipsec/nss --empty-password

/usr/libexec/ipsec/pluto --nofork --config "$settings/ipsec.conf" --secretsfile "$settings/ipsec.secrets" \
    --logfile "$settings/pluto.log" &
pluto=$!
trap 'kill $pluto' INT TERM
tries=0
until ipsec whack --status > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "pluto does not answer"; exit 1; }
    sleep 0.1
done
ipsec whack --listen
for name in "$@"; do
    ipsec addconn --config "$settings/ipsec.conf" "$name"
    [ "$how" = wait ] || ipsec whack --asynchronous --initiate --name "$name"
done
echo ready
wait $pluto
