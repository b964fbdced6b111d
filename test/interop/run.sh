#!/usr/bin/env bash
# Interop: the GSB suite against the real router. Builds that once, with cargo, into build/cache/interop; a machine
# without cargo skips it, and says so. It is a GPL program: it is built and run beside ours, nothing of it becomes part.
set -euo pipefail
cd "$(dirname "$0")/../.."

crate=ya-sb-router version=0.6.4
home=build/cache/interop
router=$home/bin/$crate

if [ ! -x "$router" ]; then
  if ! command -v cargo >/dev/null; then
    echo "interop: skipped, there is no cargo here to build the real router ($crate $version) with"
    exit 0
  fi
  echo "interop: building $crate $version, once"
  mkdir -p "$home"
  # Its own target folder: cargo's default would be a temporary one that a failed build leaves behind.
  cargo install "$crate" --version "$version" --locked --features bin --root "$home" --target-dir "$home/target" \
    >"$home/cargo.log" 2>&1 || { tail -n 20 "$home/cargo.log" >&2; echo "interop: the build failed, see $home/cargo.log" >&2; exit 1; }
  rm -rf "$home/target"
fi
YAVM_REAL_ROUTER=$router exec build/node.sh test/run.ts interop
