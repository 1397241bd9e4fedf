#!/usr/bin/env bash
# Builds the programs and shows the mesh on this machine: three domains, a software TPM and a simulated SEV-SNP guest
# (`attestd demo --mesh`). All arguments are the demo's. As scripts/demo.sh installs what is missing, so does this.
set -euo pipefail
cd "$(dirname "$0")"
exec ./demo.sh --mesh "$@"
