#!/usr/bin/env bash
# Boots a virtual machine with a TPM (QEMU's emulation, OVMF, swtpm, a Debian kernel in a unified kernel image), holds its
# PCR 4, 7, 9 and 11 against what `verifier refs compute tpm` said before it started, and has a verifier judge it: by the
# computed set, with the TPM that the guest measured into and the logs that it handed out. Then the same machine with another
# command line, which must be denied, naming what was measured. Takes a minute or two, with /dev/kvm or without; needs no
# root and installs nothing (scripts/install.sh boot does).
# usage: scripts/test-boot.sh [--required] [KERNEL]     the newest kernel of /boot unless told
# --required: what is not installed is an error, else it is said and the test passes. QEMU names the program where it is not
# on the path; CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts=$PWD/scripts
started=$SECONDS

required=no
if [ "${1:-}" = --required ]; then required=yes; shift; fi
qemu=${QEMU:-qemu-system-x86_64}
stub=${STUB:-/usr/lib/systemd/boot/efi/linuxx64.efi.stub}
busybox=${BUSYBOX:-/bin/busybox}
firmware=/usr/share/OVMF
kernel=${1:-$(find /boot -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1)}
missing=()
command -v "$qemu" >/dev/null || missing+=("qemu-system-x86")
command -v swtpm >/dev/null || missing+=("swtpm")
command -v swtpm_setup >/dev/null || missing+=("swtpm-tools")
command -v objcopy >/dev/null || missing+=("binutils")
command -v python3 >/dev/null || missing+=("python3")
[ -f "$stub" ] || missing+=("systemd-boot-efi")
[ -f "$firmware/OVMF_CODE_4M.fd" ] || missing+=("ovmf")
[ -x "$busybox" ] || missing+=("busybox-static")
[ -f "$kernel" ] || missing+=("linux-image-cloud-amd64 (or a kernel as the argument)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "skipped: not installed: ${missing[*]}"
  [ "$required" = no ]
  exit
fi

cargo build --locked --quiet --workspace --bins
programs=${CARGO_TARGET_DIR:-target}/debug
verifier=$(realpath "$programs/verifier")
attestd=$(realpath "$programs/attestd")
export TSS2_LOG=${TSS2_LOG:-all+NONE}
work=$(mktemp -d)
cleanup() {
  for pid in $(jobs -pr); do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "$*" >&2
  exit 1
}
# until_so COMMAND...: looks for five minutes at most; emulation on a busy machine takes its time.
until_so() {
  for _ in $(seq 3000); do
    if "$@"; then return; fi
    sleep 0.1
  done
  fail "it never came to: $*"
}

# An initrd that tells its registers and its logs, and waits to be switched off.
mkdir -p "$work"/initrd/{bin,proc,sys,dev}
cp "$busybox" "$work/initrd/bin/busybox"
cat >"$work/initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs d /dev
exec >/dev/ttyS0 2>&1
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t sysfs s /sys
/bin/busybox mount -t securityfs k /sys/kernel/security
for pcr in 4 7 9 11; do
  echo "PCR $pcr $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$pcr)"
done
for log in tpm0/binary_bios_measurements ima/binary_runtime_measurements; do
  echo "BEGIN $log"
  /bin/busybox base64 /sys/kernel/security/$log
  echo "END $log"
done
echo "ALL TOLD"
while :; do /bin/busybox sleep 1000; done
INIT
chmod +x "$work/initrd/init"
(cd "$work/initrd" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -n >"$work/initrd.gz"
printf 'ID=test\n' >"$work/osrel"

# A TPM with a certificate of a manufacturer made for the occasion.
mkdir "$work/tpm" "$work/maker"
cat >"$work/localca.conf" <<CONF
statedir = $work/maker
signingkey = $work/maker/signkey.pem
issuercert = $work/maker/issuercert.pem
certserial = $work/maker/certserial
CONF
printf -- '--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n' >"$work/localca.options"
localca=$(command -v swtpm_localca || echo /usr/share/swtpm/swtpm-localca)
cat >"$work/setup.conf" <<CONF
create_certs_tool = $localca
create_certs_tool_config = $work/localca.conf
create_certs_tool_options = $work/localca.options
CONF
swtpm_setup --tpm2 --create-ek-cert --pcr-banks sha256 --config "$work/setup.conf" --tpmstate "$work/tpm" \
  --logfile "$work/setup.log" >/dev/null || fail "$(cat "$work/setup.log")"

# A domain that trusts the manufacturer and knows no machine, and a node of it.
"$verifier" init --state "$work/domain" --lab --domain lab.example --listen-enrolment 127.0.0.1:0 \
  --listen-nodes 127.0.0.1:0 --simulated-root "$work/maker/swtpm-localca-rootca-cert.pem" >/dev/null
"$verifier" serve --state "$work/domain" --log warn >/dev/null &
until_so test -f "$work/domain/addresses.json"
address() { sed -nE "s/.*\"$1\": *\"([^\"]+)\".*/\1/p" "$work/domain/addresses.json"; }
mkdir -m 700 "$work/node"

# predict NAME CMDLINE: makes the image, and says what it will measure.
predict() {
  local folder=$work/$1 uki=$work/$1/esp/EFI/BOOT/BOOTX64.EFI
  mkdir -p "$folder/esp/EFI/BOOT"
  printf '%s' "$2" >"$folder/cmdline"
  objcopy --add-section .osrel="$work/osrel" --change-section-vma .osrel=0x20000 \
    --add-section .cmdline="$folder/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
    --add-section .initrd="$work/initrd.gz" --change-section-vma .initrd=0x6000000 "$stub" "$uki"
  "$verifier" refs compute tpm --uki "$uki" --secure-boot off --phase "" |
    sed -nE 's/^ *pcr\.([0-9]+) +sha256:([0-9a-f]{64}).*/PCR \1 \2/p' | sort >"$folder/predicted"
}

# boot NAME: boots the image, compares, and leaves the TPM as the guest left it, for the node to use.
boot() {
  local name=$1 folder=$work/$1
  cp "$firmware/OVMF_VARS_4M.fd" "$folder/vars.fd"
  swtpm socket --tpm2 --tpmstate "dir=$work/tpm" --ctrl "type=unixio,path=$folder/tpm.sock" --flags startup-clear \
    >/dev/null 2>&1 &
  tpm=$!
  until_so test -S "$folder/tpm.sock"
  timeout 300 "$qemu" -machine q35,accel=tcg -cpu max -m 512 -nic none -vga none \
    -display none -no-reboot -serial "file:$folder/serial" \
    -drive "if=pflash,format=raw,unit=0,readonly=on,file=$firmware/OVMF_CODE_4M.fd" \
    -drive "if=pflash,format=raw,unit=1,file=$folder/vars.fd" \
    -drive "if=none,id=esp,format=raw,file=fat:rw:$folder/esp" -device ide-hd,drive=esp -pidfile "$folder/qemu.pid" \
    -chardev "socket,id=tpm,path=$folder/tpm.sock" -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0 &
  machine=$!
  told() { grep -q "ALL TOLD" "$folder/serial" 2>/dev/null || ! kill -0 "$machine" 2>/dev/null; }
  until_so told
  # killed, not switched off: QEMU would have the TPM switched off too
  kill -KILL "$(cat "$folder/qemu.pid")"
  wait "$machine" 2>/dev/null || true
  sed -nE 's/.*(PCR [0-9]+ [0-9A-F]{64}).*/\L\1/p' "$folder/serial" | sed 's/^pcr/PCR/' | sort >"$folder/measured"
  if ! diff "$folder/predicted" "$folder/measured" || [ "$(wc -l <"$folder/measured")" != 4 ]; then
    tail -n 20 "$folder/serial"
    fail "boot $name: predicted (<) and measured (>) differ"
  fi
  for log in tpm0/binary_bios_measurements ima/binary_runtime_measurements; do
    tr -d '\r' <"$folder/serial" | sed -n "\#^BEGIN $log#,\#^END $log#p" | sed '1d;$d' | base64 -d >"$work/$(basename "$log")"
  done
  echo "boot $name: PCR 4, 7, 9 and 11 as predicted"
  "$scripts/tpm-relay.py" "$folder/tpm.sock" "$folder/port" &
  until_so test -f "$folder/port"
  cat >"$work/node/attestd.toml" <<CONF
node_id = "vm-1"
[tpm]
tcti = "swtpm:host=127.0.0.1,port=$(cat "$folder/port")"
ek = "rsa-2048"
ek_intermediates = "$work/maker/issuercert.pem"
[logs]
event_log = "$work/binary_bios_measurements"
[watch]
pcrs = [4, 7, 9, 11]
[halt]
action = "kill"
[[domain]]
name = "lab.example"
nodes = "$(address nodes)"
enrolment = "$(address enrolment)"
server_name = "localhost"
ca = "$work/domain/ca.pem"
CONF
}

# judged CODE: what the verifier says of the guest's quote and logs, in $work/verdict; it must end with this exit code.
judged() {
  local nonce code=0
  nonce=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
  rm -f "$work/evidence.cmw"
  "$attestd" evidence --state "$work/node" --log error --nonce "$nonce" --pcrs 4,7,9,11 --out "$work/evidence.cmw" >/dev/null
  "$verifier" appraise --state "$work/domain" --node vm-1 --evidence "$work/evidence.cmw" --nonce "$nonce" \
    --format json >"$work/verdict" || code=$?
  [ "$code" = "$1" ] || fail "appraised: exit code $code: $(cat "$work/verdict")"
}

# genuine: the guest's quote over PCR 0 to 11, its event log and its IMA log belong together.
genuine() {
  local nonce
  nonce=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
  mkdir -p "$work/parts"
  "$attestd" evidence --state "$work/node" --log error --nonce "$nonce" --pcrs 0,1,2,3,4,5,6,7,8,9,10,11 \
    --parts "$work/parts" >/dev/null
  "$verifier" evidence verify --kind tpm --quote "$work/parts/quote.bin" --signature "$work/parts/quote.sig" \
    --ak "$work/parts/ak.pub" --pcrs "$work/parts/pcrs.txt" --event-log "$work/binary_bios_measurements" \
    --ima-log "$work/binary_runtime_measurements" >"$work/genuine" || fail "$(cat "$work/genuine")"
}

signer=$work/domain/authority/authority-1.key
predict first "console=ttyS0 panic=-1 quiet"
predict second "console=ttyS0 panic=-1 quiet second"

# The set, from the files alone, before anything boots.
cat >"$work/base.toml" <<BASE
id = "vm"
version = 1
domain = "lab.example"
environment = "lab"
issued_at = "2026-01-01T00:00:00Z"
not_before = "2026-01-01T00:00:00Z"
not_after = "2046-01-01T00:00:00Z"
reason = "test"
[tpm]
bank = "sha256"
pcrs = [4, 7, 9, 11]
require_event_log = true
require_ima_log = false
platforms = { accept = "enrolled" }
firmware = [{ manufacturer = "id:00001014", floor = "0000000000000000", source = "swtpm" }]
BASE
for pcr in 4 7 9 11; do
  printf '[[tpm.pcr]]\nindex = %s\naccept = [{ digest = "sha256:%s", source = "replaced" }]\n' \
    "$pcr" "$(printf '00%.0s' {1..32})" >>"$work/base.toml"
done
"$verifier" refs compute tpm --uki "$work/first/esp/EFI/BOOT/BOOTX64.EFI" --secure-boot off --phase "" \
  --set vm --base "$work/base.toml" --out "$work/vm.toml" >/dev/null
"$verifier" refs import "$work/vm.toml" --state "$work/domain" --signer "$signer" >/dev/null
"$verifier" refs activate vm --state "$work/domain" --signer "$signer" --reason "computed" >/dev/null

boot first
"$attestd" enrol --state "$work/node" --log error >/dev/null
judged 0
echo "boot first: affirmed by the computed set"
genuine
echo "boot first: quote, event log and IMA log belong together"
kill "$tpm"
wait "$tpm" 2>/dev/null || true

boot second
judged 3
changed=$(comm -23 "$work/first/measured" "$work/second/measured" | awk '{ print $2 }' | sort -n | tr '\n' ' ')
[ "$changed" = "4 9 11 " ] || fail "another command line changed PCR $changed"
grep -q '"claim": "tpm.pcr.9"' "$work/verdict" || fail "PCR 9 is not named: $(cat "$work/verdict")"
named=$(grep -oE "event [0-9]+ EV_EVENT_TAG .{0,3}LOADED_IMAGE::LoadOptions" "$work/verdict" | head -n 1)
[ -n "$named" ] || fail "the event is not named: $(cat "$work/verdict")"
echo "boot second: denied, naming ${named//\\/}"
echo "passed: another command line changes PCR 4, 9 and 11 and is denied; took $((SECONDS - started)) s"
