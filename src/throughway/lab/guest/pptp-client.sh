#!/bin/sh
# A PPTP client: $1 is the server, $2 the file with pppd's options. It runs in a mount namespace of its own.
#
# pptp keeps a socket for each server below /run/pptp, and pppd its database in /run: several clients in one guest
# would meet there, so each has a /run of its own, with the guest's folder in it.
# pppd's hooks are Debian's and do nothing here but take time; what is removed is the guest's own copy.
set -e
rm -rf /etc/ppp/ip-*
own=$(mktemp -d /run/client-XXXXXX)
mkdir -p "$own/guest" "$own/lock" "$own/pptp" "$own/ppp"
mount --bind /run/guest "$own/guest"
mount --rbind "$own" /run
exec pppd pty "pptp $1 --nolaunchpppd --loglevel 1 --nobuffer" file "$2"
