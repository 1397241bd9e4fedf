#!/usr/bin/env bash
# Boots a virtual machine with a TPM (QEMU's emulation, OVMF, swtpm, a Debian kernel in a unified kernel image) and holds
# its PCR 4, 7, 9 and 11 against what `verifier refs compute tpm` said before it started; once more with another command
# line, which must change PCR 4, 9 and 11 and nothing else of these. Takes about a minute. Needs no root, installs nothing.
# usage: scripts/test-boot.sh [KERNEL]     the newest kernel of /boot unless told
# QEMU names the program where it is not on the path; CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

qemu=${QEMU:-qemu-system-x86_64}
stub=${STUB:-/usr/lib/systemd/boot/efi/linuxx64.efi.stub}
busybox=${BUSYBOX:-/bin/busybox}
firmware=/usr/share/OVMF
kernel=${1:-$(find /boot -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1)}
missing=()
command -v "$qemu" >/dev/null || missing+=("qemu-system-x86")
command -v swtpm >/dev/null || missing+=("swtpm")
command -v objcopy >/dev/null || missing+=("binutils")
[ -f "$stub" ] || missing+=("systemd-boot-efi")
[ -f "$firmware/OVMF_CODE_4M.fd" ] || missing+=("ovmf")
[ -x "$busybox" ] || missing+=("busybox-static")
[ -f "$kernel" ] || missing+=("linux-image-cloud-amd64 (or a kernel as the first argument)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "skipped: not installed: ${missing[*]}"
  exit 0
fi

cargo build --locked --quiet -p verifier --bin verifier
verifier=${CARGO_TARGET_DIR:-target}/debug/verifier
work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

# An initrd that says its PCRs and powers off.
mkdir -p "$work"/initrd/{bin,proc,sys,dev}
cp "$busybox" "$work/initrd/bin/busybox"
cat >"$work/initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs d /dev
exec >/dev/ttyS0 2>&1
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t sysfs s /sys
for pcr in 4 7 9 11; do
  echo "PCR $pcr $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$pcr)"
done
/bin/busybox poweroff -f
INIT
chmod +x "$work/initrd/init"
(cd "$work/initrd" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -n >"$work/initrd.gz"
printf 'ID=test\n' >"$work/osrel"

# boot NAME CMDLINE: predicts, boots, compares; leaves the values in $work/NAME.measured.
boot() {
  local name=$1 folder=$work/$1 uki=$work/$1/esp/EFI/BOOT/BOOTX64.EFI
  mkdir -p "$folder/esp/EFI/BOOT" "$folder/tpm"
  printf '%s' "$2" >"$folder/cmdline"
  objcopy --add-section .osrel="$work/osrel" --change-section-vma .osrel=0x20000 \
    --add-section .cmdline="$folder/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
    --add-section .initrd="$work/initrd.gz" --change-section-vma .initrd=0x6000000 "$stub" "$uki"
  "$verifier" refs compute tpm --uki "$uki" --secure-boot off --phase "" |
    sed -nE 's/^ *pcr\.([0-9]+) +sha256:([0-9a-f]{64}).*/PCR \1 \2/p' | sort >"$work/$name.predicted"
  cp "$firmware/OVMF_VARS_4M.fd" "$folder/vars.fd"
  swtpm socket --tpm2 --tpmstate "dir=$folder/tpm" --ctrl "type=unixio,path=$folder/tpm.sock" \
    --flags startup-clear --terminate &
  pids+=($!)
  until [ -S "$folder/tpm.sock" ]; do sleep 0.05; done
  timeout 300 "$qemu" -machine q35,accel=tcg -cpu max -m 1024 -nic none -vga none \
    -display none -no-reboot -serial "file:$folder/serial" \
    -drive "if=pflash,format=raw,unit=0,readonly=on,file=$firmware/OVMF_CODE_4M.fd" \
    -drive "if=pflash,format=raw,unit=1,file=$folder/vars.fd" \
    -drive "if=none,id=esp,format=raw,file=fat:rw:$folder/esp" -device ide-hd,drive=esp \
    -chardev "socket,id=tpm,path=$folder/tpm.sock" -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0
  sed -nE 's/.*(PCR [0-9]+ [0-9A-F]{64}).*/\L\1/p' "$folder/serial" | sed 's/^pcr/PCR/' | sort >"$work/$name.measured"
  if ! diff "$work/$name.predicted" "$work/$name.measured" || [ "$(wc -l <"$work/$name.measured")" != 4 ]; then
    echo "boot \"$2\": predicted (<) and measured (>) differ"
    tail -n 20 "$folder/serial"
    exit 1
  fi
  echo "boot \"$2\": PCR 4, 7, 9 and 11 as predicted"
}

boot first "console=ttyS0 panic=-1 quiet"
boot second "console=ttyS0 panic=-1 quiet second"
changed=$(comm -23 "$work/first.measured" "$work/second.measured" | awk '{ print $2 }' | sort -n | tr '\n' ' ')
[ "$changed" = "4 9 11 " ] || { echo "another command line changed PCR $changed"; exit 1; }
echo "another command line changes PCR 4, 9 and 11; took $((SECONDS - started)) s"
