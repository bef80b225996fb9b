#!/usr/bin/env bash
# Makes sure that the image debian:bookworm-slim is there: as it is, from a registry, or, where none
# can be reached, made with debootstrap (kept under target/ for the next time).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

IMAGE=debian:bookworm-slim
docker image inspect "$IMAGE" >/dev/null 2>&1 && exit 0
say "pulling $IMAGE"
timeout 60 docker pull -q "$IMAGE" >/dev/null 2>&1 && exit 0

archive=target/bookworm-minbase.tar
if [ ! -s "$archive" ]; then
  has debootstrap || install_packages debootstrap debootstrap ""
  say "no registry: making $IMAGE with debootstrap (about a minute)"
  tree=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "as_root rm -rf '$tree'" EXIT
  mirror=$(sed -nE 's/^deb (\[[^]]*\] )?(http[^ ]*debian\/?) .*/\2/p;s/^URIs: (http[^ ]*debian\/?)$/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 || true)
  as_root debootstrap --variant=minbase bookworm "$tree" "${mirror:-http://deb.debian.org/debian}" >/dev/null
  mkdir -p target
  as_root tar -C "$tree" -c . > "$archive.new"
  mv "$archive.new" "$archive"
fi
docker import "$archive" "$IMAGE" >/dev/null
