#!/usr/bin/env bash
# Installs what run.sh compares with: restic, borg and GNU time from the distribution (Debian, Ubuntu),
# rustic with cargo. Takes the versions that come; run.sh prints them.
set -euo pipefail

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

as_root apt-get update
as_root apt-get install --yes --no-install-recommends restic borgbackup time openssl
command -v rustic >/dev/null || cargo install rustic-rs --locked
command -v rustic >/dev/null || echo "add cargo's bin folder to PATH, so that rustic is found" >&2
