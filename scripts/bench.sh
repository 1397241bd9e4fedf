#!/usr/bin/env bash
# Runs the benches and prints the ratios that the budgets are about, each from one run on this machine.
# Times of different runs do not compare; ratios within one run do. Arguments go to criterion (for example
# --measurement-time 2). Name benches in BENCHES to run only those.
set -euo pipefail
cd "$(dirname "$0")/.."

export TSS2_LOG=${TSS2_LOG:-all+NONE}
# Genuine evidence, where it is at hand: some benches measure with it.
if [ -z "${ATTEST_CORPUS:-}" ] && [ -d ../shared/corpus ]; then
  ATTEST_CORPUS=$(cd ../shared/corpus && pwd)
  export ATTEST_CORPUS
fi
names() { sed -n '/^\[\[bench\]\]/{n;s/^name = "\(.*\)"/\1/p}' "$1/Cargo.toml" | tr '\n' ' '; }
beside_others=$(names oracle)
read -ra benches <<<"${BENCHES:-$(names tests)$beside_others}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT

for bench in "${benches[@]}"; do
  echo "bench $bench" >&2
  case $bench in halts | mesh | partners | revocation) # real processes
    cargo build --quiet --release -p verifier --bin verifier
    cargo build --quiet --release -p simulators --bin tee-simulator
    # as it is packaged
    cargo build --quiet --profile node -p attestd --bin attestd
    BENCH_ATTESTD=$(realpath "${CARGO_TARGET_DIR:-target}")/node/attestd
    export BENCH_ATTESTD ;;
  esac
  # what runs beside other verifiers is in a workspace of its own
  package=tests
  if [[ " $beside_others" == *" $bench "* ]]; then package=oracle; fi
  (cd "$package" && cargo bench --quiet --package "$package" --bench "$bench" -- "$@") | tee -a "$out" >&2
done

echo
sed -n 's/^histogram: //p' "$out"
grep '^ratio: ' "$out" | sed 's/^ratio: //' | awk -F': ' '{ printf "%-58s %s\n", $1, $2 }'
if grep -q '^ratio: .*, ABOVE ' "$out"; then exit 1; fi
