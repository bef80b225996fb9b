#!/usr/bin/env bash
# A cluster of real containers under a ledger of acknowledged writes, while containers are killed and
# paused. Uses ports 26900 and up, and a project name of its own; removes everything it made.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }

cargo build --locked
export HOWDAH_IMAGE="howdah:test-$$" COMPOSE_PROJECT_NAME="howdahtest$$" COMPOSE_FILE=deploy/compose.yaml
export HOWDAH_GRPC_1=26900 HOWDAH_GRPC_2=26901 HOWDAH_GRPC_3=26902 HOWDAH_HTTP_1=26980
export HOWDAH_SQL_1=26932 HOWDAH_READ_ONLY_1=26933 HOWDAH_SQL_2=26934 HOWDAH_READ_ONLY_2=26935
say "building the image"
deploy/image.sh target/debug/howdah >/dev/null
cleanup() {
  compose down -v --timeout 5 >/dev/null 2>&1 || true
  docker image rm "$HOWDAH_IMAGE" >/dev/null 2>&1 || true
}
trap cleanup EXIT
say "starting 3 coordinators and 8 containers"
compose up -d >/dev/null 2>&1 || { compose up -d; die "docker-compose up failed"; }
cargo test --locked --test all cluster::containers -- --ignored --nocapture || {
  compose logs --no-color --tail 40
  die "the containers' test failed"
}
