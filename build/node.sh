#!/bin/sh
# Runs a script on the pinned Node, with its bin folder and node_modules/.bin first in PATH.
root=$(dirname "$0")/..
. "$root/build/pins.sh"
cd "$root" || exit 1
export PATH="$PWD/$NODE_HOME/bin:$PWD/node_modules/.bin:$PATH"
exec node --disable-warning=ExperimentalWarning "$@"
