#!/usr/bin/env bash
# Brings to this machine what the build needs: Debian packages, the pinned Node with its npm, npm's packages.
# Each step looks first and does nothing when its result is there, so a second run takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/pins.sh
stamps=build/cache/stamps

main() {
  one_at_a_time
  debian_packages
  apt_lists
  pinned_node
  npm_packages
}

say() { echo "setup: $*"; }

fail() {
  echo "setup: $*" >&2
  exit 1
}

# Two makes in one checkout must not unpack over each other.
one_at_a_time() {
  mkdir -p "$stamps"
  exec 9>build/cache/setup.lock
  flock --nonblock 9 || { say 'another set-up is running here, waiting for it'; flock 9; }
}

# ---------------------------------------------------------------- Debian packages

debian_packages() {
  local missing
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "this is no Debian: install what build/packages.txt lists ($missing), then set YAVM_NO_APT=1"
  say "installing Debian packages: $missing"
  as_root apt-get update -qq || say 'apt-get update reported an error; going on with the lists that are there'
  # shellcheck disable=SC2086  # a list of names
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >build/cache/apt.log 2>&1 ||
    { tail -n 20 build/cache/apt.log >&2; fail 'apt-get install failed, see above and build/cache/apt.log'; }
}

# The packages of the list that are not installed. npm counts as one only while nothing else can fetch the pinned Node.
missing_packages() {
  [ -z "${YAVM_NO_APT:-}" ] || return 0
  local wanted installed
  wanted=$(awk '/^[a-z]/ { print $1 }' build/packages.txt)
  if [ ! -e "$NODE_HOME/bin/npm" ] && ! command -v npm >/dev/null; then wanted+=$'\nnpm'; fi
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | awk '$1 == "installed" { print $2 }')
  comm -23 <(sort -u <<<"$wanted") <(sort -u <<<"$installed") | xargs
}

# The build takes the kernel and busybox with apt-get download, which needs apt's lists even when nothing is installed.
apt_lists() {
  [ -z "${YAVM_NO_APT:-}" ] || return 0
  if [ -d build/cache/packages ] || ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then return 0; fi
  say "fetching apt's lists"
  as_root apt-get update -qq
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "root is needed, and there is no sudo. Run as root: $*"
  fi
}

# ---------------------------------------------------------------- Node

# Node and npm as a Node distribution lays them out, in build/cache: never the machine's own.
pinned_node() {
  if [ ! -x "$NODE_HOME/bin/node" ]; then
    say "fetching Node $NODE_VERSION"
    fetch "$NODE_PACKAGE@$NODE_VERSION" "$NODE_SHA512" "$NODE_HOME"
  fi
  if [ ! -e "$NODE_HOME/bin/npm" ]; then
    say "fetching npm $NPM_VERSION"
    fetch "npm@$NPM_VERSION" "$NPM_SHA512" "$NODE_HOME/lib/node_modules/npm"
    ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$NODE_HOME/bin/npm"
  fi
  export PATH="$PWD/$NODE_HOME/bin:$PATH"
}

# fetch PACKAGE@VERSION SHA512 FOLDER: an npm package without its dependencies, verified before it is unpacked.
fetch() {
  local work archive found
  work=$(mktemp -d build/cache/fetch.XXXXXX)
  # npm 9 (Debian 12) prints the archive's name as its last line; the glob does not depend on that.
  npm pack "$1" --pack-destination "$work" --loglevel=error >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; rm -rf "$work"; fail "npm could not fetch $1"; }
  archive=$(echo "$work"/*.tgz)
  found=$(sha512sum "$archive" | cut -d ' ' -f 1)
  if [ "$found" != "$(base64 -d <<<"$2" | od -An -v -tx1 | tr -d ' \n')" ]; then
    rm -rf "$work"
    fail "$1 is not the package that build/pins.sh pins (SHA-512 $found)"
  fi
  tar -xzf "$archive" -C "$work" --no-same-owner
  mkdir -p "$(dirname "$3")"
  rm -rf "$3"
  mv "$work/package" "$3"
  rm -rf "$work"
}

# ---------------------------------------------------------------- npm packages

# Without install scripts: every package that has one ships a binary or works without (esbuild, serialport, cbor-x).
npm_packages() {
  local key
  key=$(sha256sum package.json package-lock.json .npmrc build/pins.sh | sha256sum | cut -d ' ' -f 1)
  if [ -e node_modules/.package-lock.json ] && [ "$(cat "$stamps/npm" 2>/dev/null)" = "$key" ]; then return 0; fi
  say 'installing npm packages'
  npm ci --ignore-scripts --prefer-offline --loglevel=error
  echo "$key" >"$stamps/npm"
}

main
