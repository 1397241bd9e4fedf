#!/usr/bin/env bash
# Runs the tests of an intent's limits (attestd/tests/limits.rs) in a virtual machine, whose kernel has cgroup v2 with all
# its controllers to itself; on a machine that gives both, `cargo nextest run -p attestd --test limits` does the same. Takes
# half a minute; needs neither /dev/kvm nor root and installs nothing (scripts/install.sh boot does).
# usage: scripts/test-limits.sh [--required] [KERNEL]     the newest kernel of /boot unless told
# --required: what is not installed is an error, else it is said and the test passes. QEMU names the program where it is not
# on the path; CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

required=no
if [ "${1:-}" = --required ]; then required=yes; shift; fi
qemu=${QEMU:-qemu-system-x86_64}
busybox=${BUSYBOX:-/bin/busybox}
kernel=${1:-$(find /boot -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1)}
missing=()
command -v "$qemu" >/dev/null || missing+=("qemu-system-x86")
[ -x "$busybox" ] || missing+=("busybox-static")
[ -f "$kernel" ] || missing+=("linux-image-cloud-amd64 (or a kernel as the argument)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "skipped: not installed: ${missing[*]}"
  [ "$required" = no ]
  exit
fi

# The whole workspace, as for the other tests, so that nothing is built twice.
built=$(cargo test --locked --quiet --workspace --test limits --no-run --message-format=json)
executable() { grep -oE "\"executable\":\"[^\"]*/$1\"" <<<"$built" | cut -d'"' -f4 | tail -n 1; }
tests=$(executable 'limits-[0-9a-f]+')
attestd=$(executable attestd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp "$busybox" "$root/bin/busybox"
# The programs where they were built, less what only a debugger reads, and their libraries where they are here.
for program in "$tests" "$attestd"; do
  mkdir -p "$root$(dirname "$program")"
  strip --strip-debug -o "$root$program" "$program"
  ldd "$program" | grep -oE '/[^ ]+'
done | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs d /dev
exec >/dev/ttyS0 2>&1
mount -t proc p /proc
mount -t sysfs s /sys
mount -t cgroup2 c /sys/fs/cgroup
export PATH=/bin TMPDIR=/tmp
for test in \$($tests --list --format terse | sed -n 's/: test\$//p'); do
  $tests --exact "\$test" --nocapture
done
echo "ALL TOLD"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -n -1 >"$work/initrd.gz"

timeout 300 "$qemu" -machine q35,accel=tcg -cpu max -m 1024 -smp 2 -nic none -vga none -display none -no-reboot \
  -serial "file:$work/serial" -kernel "$kernel" -initrd "$work/initrd.gz" -append "console=ttyS0 panic=-1 quiet" \
  2>"$work/qemu" || { cat "$work/qemu" "$work/serial" >&2; exit 1; }

expected=$("$tests" --list --format terse | grep -c ': test$')
passed=$(tr -d '\r' <"$work/serial" | grep -c '^test result: ok. 1 passed') || true
if ! grep -q "ALL TOLD" "$work/serial" || grep -q "not tested" "$work/serial" || [ "$passed" != "$expected" ]; then
  tail -n 80 "$work/serial" >&2
  echo "$passed of $expected tests passed" >&2
  exit 1
fi
echo "passed: $passed of $expected tests of limits, by cgroup v2; took $((SECONDS - started)) s"
