#!/usr/bin/env bash
# Everything that is checked before a change is good, from a fresh machine on: the same set-up as
# quickstart.sh, then format, lints, tests, licences, containers. CI runs this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

setup
# The drivers round uses these where they are there, and says so where they are not.
if has apt-get && has javac && [ ! -e /usr/share/java/postgresql.jar ]; then
  (install_packages libpostgresql-jdbc-java "" "") || say "the JDBC driver cannot be installed"
fi
if has apt-get && ! python3 -c 'import ensurepip' 2>/dev/null; then
  (install_packages python3-venv "" "") || say "python3-venv cannot be installed"
fi

# Machines of their own for partitions and chaos; skipped, and said so, where they cannot be had.
if has apt-get && [ "$(id -u)" = 0 ] && ! { has ip && has iptables-restore && has tc; }; then
  (install_packages "iproute2 iptables" "" "") || say "iproute2 and iptables cannot be installed"
fi

say "format"
cargo fmt --check
say "lints"
cargo clippy --all-targets --locked -- -D warnings
say "tests"
cargo test --locked --lib --bins
# Real clusters measure seconds: one test at a time.
cargo test --locked --test all -- --test-threads 1
if cargo deny --version >/dev/null 2>&1; then
  say "licences and sources"
  cargo deny --offline check bans licenses sources
else
  say "SKIPPED: licences and sources: cargo-deny is not installed"
fi
if docker info >/dev/null 2>&1; then
  deploy/compose-test.sh
else
  say "SKIPPED: containers: docker does not run here"
fi
say "all good"
