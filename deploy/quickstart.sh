#!/usr/bin/env bash
# From a fresh machine to a running cluster: installs what is missing, builds, runs `howdah dev`.
# Arguments go to `howdah dev`: deploy/quickstart.sh --load tpch:0.1
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

setup
say "building Howdah (some five minutes the first time)"
cargo build --release --locked

# PostgreSQL does not run as root, and its user must be able to reach the cluster's directory.
case " $* " in
  *" --dir"*) ;;
  *)
    if [ "$(id -u)" = 0 ] && ! su -s /bin/sh postgres -c "test -x '$PWD'" 2>/dev/null; then
      say "user postgres cannot reach $PWD: the cluster's directory is /var/lib/howdah-dev"
      set -- --dir /var/lib/howdah-dev "$@"
    fi
    ;;
esac
say "target/release/howdah dev $*"
exec target/release/howdah dev "$@"
