#!/usr/bin/env bash
# Installs what a new Debian machine lacks, and says what. With --no-install it refuses instead.
# usage: scripts/install.sh [--no-install] [demo|test|boot]     boot: what scripts/test-boot.sh needs, but for a kernel
set -euo pipefail

install=yes
purpose=demo
for word in "$@"; do
  case "$word" in
    --no-install) install=no ;;
    demo | test | boot) purpose=$word ;;
    *) echo "usage: scripts/install.sh [--no-install] [demo|test|boot]" >&2; exit 2 ;;
  esac
done

# package: a file or command that shows it is there
missing=()
need() { # package, test command...
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
library() { pkg-config --exists "$1"; }
need pkg-config command -v pkg-config
need build-essential command -v cc
need libtss2-dev library tss2-esys
need swtpm command -v swtpm
need swtpm-tools command -v swtpm_setup
if [ "$purpose" = test ]; then
  need tpm2-tools command -v tpm2_quote
  need faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
  need python3-venv python3 -c 'import ensurepip, venv'
  need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
fi
if [ "$purpose" = boot ]; then
  need qemu-system-x86 command -v qemu-system-x86_64
  need ovmf test -f /usr/share/OVMF/OVMF_CODE_4M.fd
  need systemd-boot-efi test -f /usr/lib/systemd/boot/efi/linuxx64.efi.stub
  need busybox-static test -x /bin/busybox
  need python3 command -v python3
fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$install" = no ]; then
    echo "missing packages: ${missing[*]} (install them, or run without --no-install)" >&2
    exit 1
  fi
  echo "installing from Debian: ${missing[*]}"
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "not root and no sudo: install ${missing[*]} and run again" >&2; exit 1; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

command -v cargo >/dev/null || { echo "cargo not found: install Rust 1.95 or later, then run again" >&2; exit 1; }
if [ "$purpose" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
  [ "$install" = yes ] || { echo "missing: cargo-nextest" >&2; exit 1; }
  echo "installing cargo-nextest"
  cargo install --locked cargo-nextest
fi
