#!/usr/bin/env bash
# Builds the programs and shows the whole path on this machine: `attestd demo`, with a software TPM, or with a simulated
# TEE (--platform simulated-snp, simulated-tdx, simulated-snp+tpm, simulated-tdx+tpm). All arguments are the demo's.
# Installs what a new Debian machine lacks first, and says what (--no-install refuses instead). Needs no root once
# nothing is missing. CARGO_TARGET_DIR and CARGO_PROFILE (dev, release) are respected.
set -euo pipefail
cd "$(dirname "$0")/.."

install=()
demo=()
# The drawing stays behind, where nothing is surprised by it, unless --svg names another file. The mesh draws none.
drawing=(--svg "${TMPDIR:-/tmp}/attestd-demo-lineage.svg")
for word in "$@"; do
  case "$word" in
    --no-install) install+=("$word") ;;
    --svg | --svg=* | --mesh) drawing=() demo+=("$word") ;;
    *) demo+=("$word") ;;
  esac
done
./scripts/install.sh "${install[@]}" demo

# The unoptimised build is ready sooner, and the demo waits for leases more than for code.
profile=${CARGO_PROFILE:-dev}
folder=$profile
[ "$profile" = dev ] && folder=debug
# One call for each: features of one program must not reach the other.
cargo build --locked --profile "$profile" -p verifier --bin verifier
cargo build --locked --profile "$profile" -p attestd --bin attestd
case " ${demo[*]} " in
  *simulated-* | *" --mesh "*) cargo build --locked --profile "$profile" -p simulators --bin tee-simulator ;;
esac

exec "${CARGO_TARGET_DIR:-target}/$folder/attestd" demo "${drawing[@]}" "${demo[@]}"
