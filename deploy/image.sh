#!/usr/bin/env bash
# Builds the image howdah:dev from a binary that was built here. Usage: deploy/image.sh [BINARY]
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/howdah}
[ -x "$binary" ] || { echo "howdah: $binary is missing: run cargo build --release" >&2; exit 1; }
deploy/base-image.sh
mkdir -p target/image
# Without debugging information it is a tenth of the size.
strip --strip-debug -o target/image/howdah "$binary"
docker build -q -t "${HOWDAH_IMAGE:-howdah:dev}" -f deploy/Dockerfile target/image
