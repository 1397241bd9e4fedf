#!/usr/bin/env bash
# Fuzz every reader for a while: `scripts/fuzz.sh [SECONDS [TARGET...]]`, 20 seconds each unless told, two at a time.
# Ends with status 1 when one crashes, hangs, or takes more memory than a reader may.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/attestd-ci
mkdir -p "$cache"
if ! command -v cargo-fuzz >/dev/null && [ ! -x "$cache/fuzz/bin/cargo-fuzz" ]; then
  echo "installing cargo-fuzz into $cache/fuzz"
  cargo install --quiet --locked --root "$cache/fuzz" --version 0.13.2 cargo-fuzz
fi
export PATH=$cache/fuzz/bin:$PATH
# Sanitizers are unstable options of the stable compiler.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$cache/fuzz-target

if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cargo fuzz list); fi
[ ${#targets[@]} -gt 0 ] || { echo "no targets"; exit 1; }
cargo fuzz build --sanitizer address

logs=$(mktemp -d)
# What a reader was found to take is kept and starts the next run.
run() {
  local target=$1 corpus=$cache/fuzz-corpus/$1 log=$logs/$1.log
  mkdir -p "$corpus" "$logs/$1"
  if "$CARGO_TARGET_DIR/$host/release/$target" "$corpus" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=256 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="$logs/$1/" >"$log" 2>&1; then
    printf '%-18s %s executions, peak %s MB\n' "$target" \
      "$(sed -nE 's/^stat::number_of_executed_units: *([0-9]+)/\1/p' "$log")" \
      "$(sed -nE 's/^stat::peak_rss_mb: *([0-9]+)/\1/p' "$log")"
  else
    tail -n 40 "$log"
    echo "$target failed; the input and all it said are in $logs"
    return 1
  fi
}
host=$(rustc -vV | sed -n 's/^host: //p')
# what a sanitizer keeps of freed memory is no reader's
export ASAN_OPTIONS=quarantine_size_mb=16:detect_odr_violation=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export -f run
export host seconds cache logs
if printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'run "$1"' run {}; then
  rm -rf "$logs"
else
  echo "some target failed"
  exit 1
fi
