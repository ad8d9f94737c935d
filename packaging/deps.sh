#!/bin/sh
# Installs the Debian packages that building, running and testing qs needs. With --check only says
# (by its exit code) whether something is missing.
set -eu

PACKAGES="gcc g++ make pkg-config libc6-dev iproute2
librocksdb-dev liburing-dev libxxhash-dev libmsgpack-dev libconfuse-dev libzstd-dev
libmicrohttpd-dev libjansson-dev libcurl4-openssl-dev libc-ares-dev libhiredis-dev libcmocka-dev
liblmdb-dev redis-server memcached etcd-server
python3 python3-pytest python3-pytest-xdist python3-redis redis-tools universal-ctags spin openssl
bind9-dnsutils"

missing=""
for p in $PACKAGES; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "${1:-}" = --check ]; then
    echo "qs: missing packages:$missing" >&2
    exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive

# Servers are measured beside qs, which starts them itself: as services they shall not run, neither
# now nor when the machine starts again.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
    trap '$sudo rm -f $policy' EXIT
    trap 'exit 1' INT TERM
fi
$sudo apt-get update
# shellcheck disable=SC2086
$sudo apt-get install -y --no-install-recommends $missing
for server in redis-server memcached etcd-server:etcd; do # the package, and its service's name
    case "$missing " in
    *" ${server%:*} "*)
        [ ! -d /run/systemd/system ] || $sudo systemctl disable -q "${server#*:}"
        ;;
    esac
done
