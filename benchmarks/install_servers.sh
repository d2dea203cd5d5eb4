#!/bin/sh
# Installs the servers that zq is measured against, from Debian, and starts none of them: neither now nor at the next
# boot. A benchmark starts its own, on a free port of 127.0.0.1. What was installed before is left as it was. As root.
set -eu

SERVERS="mosquitto nats-server rabbitmq-server redis-server"
POLICY=/usr/sbin/policy-rc.d # asked by Debian's packages before they start a service; 101 says no

missing=""
for server in $SERVERS; do
    if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$server" 2>/dev/null)" != installed ]; then
        missing="$missing $server"
    fi
done
[ -n "$missing" ] || exit 0

restore() {
    rm -f "$POLICY"
    [ ! -e "$POLICY.before" ] || mv "$POLICY.before" "$POLICY"
}
[ ! -e "$POLICY" ] || mv "$POLICY" "$POLICY.before"
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$POLICY"
chmod 755 "$POLICY"

# shellcheck disable=SC2086 # several words
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing
for server in $missing; do
    update-rc.d "$server" disable
done
