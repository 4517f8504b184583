#!/bin/bash
# Becomes a machine: called in namespaces of its own (network, processes, mounts, name, IPC), it makes a disk of its own over this
# system's and starts what is pid 1 there. Nothing that is done on the disk is seen outside, and it is gone with the namespaces.
#   instance.sh NAME DISK CONSOLE SCRIPT UV CACHE PROJECT [NAME=VALUE...]
set -euo pipefail
name=$1 disk=$2 console=$3 script=$4 uv=$5 cache=$6 project=$7
shift 7

mount --make-rprivate /
hostname "$name"
mount -t tmpfs -o size=4g tmpfs "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/cache-upper" "$disk/cache-work" "$disk/root"
root=$disk/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$root"
for folder in tmp run var/tmp; do
  mkdir -p "$root/$folder"
  mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"
done

# What the kernel has one of only is out of reach: on a real machine these end it, here they would end everybody.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then mount --bind /dev/null "$root/proc/sysrq-trigger"; fi

rm -rf "${root:?}/dev"
mkdir "$root/dev"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
touch "$root/dev/console"
mount --bind "$console" "$root/dev/console"

# uv and its cache, wherever they are here
touch "$root/usr/local/bin/uv"
mount --bind "$uv" "$root/usr/local/bin/uv"
mkdir -p "$root/var/cache/uv"
mount -t overlay overlay -o "lowerdir=$cache,upperdir=$disk/cache-upper,workdir=$disk/cache-work" "$root/var/cache/uv"

rm -f "$root/etc/hosts"
printf '127.0.0.1 localhost %s\n169.254.169.254 metadata.google.internal metadata\n' "$name" >"$root/etc/hosts"
mkdir -p "$root/var/lib/cloud"
rm -rf "$root/var/lib/taskfleet" "$root/var/log/taskfleet" "$root/opt/taskfleet" "$root/opt/project"
cp "$script" "$root/var/lib/cloud/user-data"
if [ -n "$project" ]; then cp -a "$project" "$root/opt/project"; fi

# The power switch. Pid 1 ends when it is told to, and the kernel ends all others with it.
for command in poweroff shutdown halt reboot; do rm -f "$root/usr/sbin/$command" "$root/sbin/$command"; done
cat >"$root/usr/sbin/shutdown" <<'END'
#!/bin/bash
# shutdown -P now | +MINUTES: asks everybody to end, waits a little, and turns the power off
at=${2:-now}
(
  trap '' HUP INT TERM
  if [ "$at" != now ]; then sleep $((${at#+} * 60)); fi
  echo "[system] Powering off." >>/dev/console
  kill -TERM -1
  for _ in $(seq 30); do
    [ "$(ls -d /proc/[0-9]* | wc -l)" -gt 6 ] || break  # who counts, and pid 1 with its sleep
    sleep 0.1
  done
  kill -TERM 1
) </dev/null >/dev/null 2>&1 &
END
cat >"$root/usr/sbin/poweroff" <<'END'
#!/bin/bash
if [ "${1:-}" != -f ]; then exec shutdown -P now; fi
echo "[system] Power cut." >>/dev/console
kill -TERM 1
END
cp "$root/usr/sbin/poweroff" "$root/usr/sbin/halt"
chmod 755 "$root/usr/sbin/shutdown" "$root/usr/sbin/poweroff" "$root/usr/sbin/halt"
cat >"$root/init" <<'END'
#!/bin/bash
# Pid 1: starts the start-up script as cloud-init would, buries the dead, and stays until the power is turned off.
trap 'exit 0' TERM
echo "[system] $(hostname) is up." >>/dev/console
/bin/bash /var/lib/cloud/user-data &
while :; do
  sleep 3600 &
  wait $!
done
END
chmod 755 "$root/init"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin UV_CACHE_DIR=/var/cache/uv "$@" \
  chroot "$root" /init </dev/null >/dev/null 2>&1
