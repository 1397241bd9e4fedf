#!/usr/bin/env bash
# Builds Debian packages of attestd and verifier.
# usage: scripts/package.sh [--dev] OUT
# --dev packages unoptimised programs, to try the packages themselves.
set -euo pipefail
cd "$(dirname "$0")/.."

of_attestd=node
of_verifier=release
compression=(-Zxz)
if [ "${1:-}" = --dev ]; then
  of_attestd=dev
  of_verifier=dev
  compression=(-Zgzip -z1)
  shift
fi
[ $# = 1 ] || { echo "usage: scripts/package.sh [--dev] OUT" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
for tool in dpkg-deb dpkg-query ldd; do
  command -v "$tool" >/dev/null || { echo "$tool not found: Debian packages are built on Debian" >&2; exit 1; }
done

if [ "$of_attestd" = "$of_verifier" ]; then
  cargo build --profile "$of_attestd" --bin attestd --bin verifier
else
  cargo build --profile "$of_attestd" -p attestd --bin attestd
  cargo build --profile "$of_verifier" -p verifier --bin verifier
fi
# Where a profile's programs are.
built() { echo "${CARGO_TARGET_DIR:-target}/${1/#dev/debug}"; }
version=$(sed -nE 's/^version = "(.*)"$/\1/p' Cargo.toml | head -n 1)
architecture=$(dpkg --print-architecture)

# Packages that own the libraries which a program is linked with.
depends() { # program
  ldd "$1" | awk '$3 ~ /^\// { print $3 }' | while read -r library; do
    dpkg-query --search "$(readlink -f "$library")" "$library" 2>/dev/null || true
  done | sed -E 's/^([^:,]+).*/\1/' | sort -u | grep -v '^$' | paste -sd, | sed 's/,/, /g'
}

staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
for package in attestd verifier; do
  root=$staged/$package
  profile=$of_attestd
  if [ "$package" = verifier ]; then profile=$of_verifier; fi
  program=$(built "$profile")/$package
  install -D -m 0755 "$program" "$root/usr/bin/$package"
  strip "$root/usr/bin/$package"
  install -D -m 0644 "packaging/$package/$package.service" "$root/lib/systemd/system/$package.service"
  mkdir -p "$root/usr/share/man/man1"
  TSS2_LOG=all+NONE "$program" man "$root/usr/share/man/man1"
  gzip -9n "$root"/usr/share/man/man1/*.1
  complete() { # shell, file
    mkdir -p "$(dirname "$root/$2")"
    TSS2_LOG=all+NONE "$program" completions "$1" >"$root/$2"
  }
  complete bash "usr/share/bash-completion/completions/$package"
  complete zsh "usr/share/zsh/vendor-completions/_$package"
  complete fish "usr/share/fish/vendor_completions.d/$package.fish"
  doc=$root/usr/share/doc/$package
  mkdir -p "$doc"
  cp LICENSE "$doc/copyright"
  gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
  cp README.md SECURITY.md docs/*.md "$doc/"
  if [ "$package" = verifier ]; then
    mkdir -p "$doc/examples"
    cp policy/*.cedar policy/schema.cedarschema firmware-refs/*.toml "$doc/examples/"
    rm -f "$doc/examples/Cargo.toml"
  fi
  mkdir -p "$root/DEBIAN"
  {
    echo "Package: $package"
    echo "Version: $version"
    echo "Architecture: $architecture"
    echo "Maintainer: The attestd authors <attestd@localhost>"
    echo "Section: admin"
    echo "Priority: optional"
    echo "Depends: $(depends "$program"), passwd"
    echo "Installed-Size: $(du -sk "$root/usr" | cut -f 1)"
    cat "packaging/$package/description"
  } >"$root/DEBIAN/control"
  for script in postinst prerm postrm; do
    install -m 0755 "packaging/$package/$script" "$root/DEBIAN/$script"
  done
  find "$root" -type d -exec chmod 0755 {} +
  find "$root/usr/share" "$root/lib" -type f -exec chmod 0644 {} +
  dpkg-deb --root-owner-group "${compression[@]}" --build "$root" "$out/${package}_${version}_$architecture.deb" >/dev/null
  echo "$out/${package}_${version}_$architecture.deb"
done
