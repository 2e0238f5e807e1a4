#!/bin/sh
# An L2TP client: $1 is the folder with xl2tpd.conf. With $2 it first brings up strongSwan's connection of that name, whose
# files are in the same folder, and ends when that does not come up. It runs in a mount namespace of its own.
#
# xl2tpd and pppd keep files in /run: several clients in one guest would meet there, so each has a /run of its own, with
# the guest's folder in it.
# pppd's hooks are Debian's and do nothing here but take time; what is removed is the guest's own copy.
set -e
rm -rf /etc/ppp/ip-*
own=$(mktemp -d /run/l2tp-XXXXXX)
mkdir -p "$own/guest" "$own/lock" "$own/xl2tpd" "$own/ppp"
mount --bind /run/guest "$own/guest"
mount --rbind "$own" /run
if [ -n "$2" ]; then
    export STRONGSWAN_CONF="$1/strongswan.conf"
    /usr/lib/ipsec/charon &
    sh /run/guest/strongswan-load.sh "$1"
    swanctl --initiate --child "$2" --timeout 20
fi
exec xl2tpd -D -c "$1/xl2tpd.conf" -p /run/xl2tpd.pid -C /run/xl2tpd/control
