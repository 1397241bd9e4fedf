#!/usr/bin/env bash
# Installs the Debian packages into a test root (this machine under an overlay that is thrown away), starts both
# programs as their units would, stops them, takes the packages out, and looks at what is left.
# usage: scripts/test-package.sh [FOLDER WITH PACKAGES]; without one, packages are built first (--dev).
# Needs root, mount and network namespaces; says so and ends with 0 where they are not to be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] || ! unshare --mount --net true 2>/dev/null; then
  echo "skipped: a test root needs root, mount and network namespaces"
  exit 0
fi
for tool in swtpm python3; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool not found"; exit 0; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=${1:-}
if [ -z "$packages" ]; then
  packages=$work/packages
  ./scripts/package.sh --dev "$packages"
fi
mkdir "$work/layer"
cp "$packages"/*.deb "$work/"
cp scripts/test-package/*.py "$work/"

# The layer is a file system of its own: an overlay's may not lie in the overlay of a container.
unshare --mount --net --pid --fork --kill-child bash -euo pipefail -s "$work" <<'INSIDE'
work=$1
mount --make-rprivate /
mount -t tmpfs -o size=1g tmpfs "$work/layer"
mkdir "$work/layer/upper" "$work/layer/work" "$work/layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$work/layer/root"
root=$work/layer/root
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
cp "$work"/*.deb "$work"/*.py "$root/tmp/"
exec chroot "$root" python3 /tmp/install_and_remove.py
INSIDE
