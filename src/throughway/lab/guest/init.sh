#!/bin/sh
# The first process of a user-mode-linux guest, on the host's own root file system, read only.
#
# The kernel's command line carries guest=FOLDER: a folder of the host, seen here as /run/guest, through which
# the lab and the guest speak:
#   config      shell assignments: NAME, MODULES (space separated), MODULE_ROOT, CHECK (a command that shows that
#               the crypto of this boot works)
#   network.sh  brings the interfaces up
#   broken      written here, with the cause, when this boot is of no use; the lab boots again
#   booted      written here when tasks may come
#   tasks/N     a script to run; its number comes as one line on the console; answers are N.pid, N.out and N.exit
# The end of the console's input, or the line "stop", is the end of the guest.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sys /sys
read -r words < /proc/cmdline
for word in $words; do
    case $word in guest=*) folder=${word#guest=} ;; esac
done
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/guest
mount -t hostfs -o "$folder" none /run/guest
# shellcheck source=/dev/null
. /run/guest/config

stop() {
    sync
    poweroff -f 2>/dev/null || halt -f || echo o > /proc/sysrq-trigger
}

broken() {
    echo "$1" > /run/guest/broken
    stop
}

# All modules come now, in one go. Afterwards the kernel loads none by itself: it would ask for a dozen that do not
# exist while the first security association is made, and clients time out meanwhile.
# shellcheck disable=SC2086 # MODULES is a list of words
/usr/sbin/modprobe -d "$MODULE_ROOT" -a overlay $MODULES 2> /run/modprobe.err \
    || broken "modules: $(cat /run/modprobe.err)"
echo > /proc/sys/kernel/modprobe

# Programs write below /etc and /var; what they write lives in memory and ends with the guest.
for tree in etc var; do
    mkdir -p "/run/overlay/$tree/upper" "/run/overlay/$tree/work"
    mount -t overlay -o "lowerdir=/$tree,upperdir=/run/overlay/$tree/upper,workdir=/run/overlay/$tree/work" \
        overlay "/$tree" || broken "/$tree cannot be made writable"
done
rm -f /var/run
ln -s /run /var/run
hostname "$NAME"
echo "127.0.0.1 localhost $NAME" > /etc/hosts
ip link set lo up

if [ -n "$CHECK" ]; then
    sh -c "$CHECK" > /run/check.err 2>&1 || broken "crypto: $(cat /run/check.err)"
fi
sh -e /run/guest/network.sh > /run/network.err 2>&1 || broken "network: $(cat /run/network.err)"

cut -d' ' -f1 /proc/uptime > /run/guest/booted
while read -r task; do
    [ "$task" = stop ] && break
    (
        sh -c 'echo $$ > "/run/guest/tasks/$0.pid"; exec sh -e "/run/guest/tasks/$0"' "$task" \
            > "/run/guest/tasks/$task.out" 2>&1 < /dev/null
        echo $? > "/run/guest/tasks/$task.exit"
    ) &
done
stop
