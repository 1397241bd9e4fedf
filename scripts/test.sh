#!/usr/bin/env bash
# Runs every test. Installs what a new Debian machine lacks first (--no-install refuses instead).
# ATTEST_CORPUS names a folder with genuine evidence; without it those tests say so in one line.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install.sh "$@" test

export TSS2_LOG=${TSS2_LOG:-all+NONE}
cargo build --workspace --bins
cargo nextest run --workspace --no-fail-fast
cargo test --workspace --doc --quiet
