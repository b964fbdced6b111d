#!/usr/bin/env bash
# The packages of `make dist`: every VM test that starts ya-vm starts the packaged program, and those that are about packages run too.
# Words are names of test files, for some of them.
set -euo pipefail
cd "$(dirname "$0")/../.."

export YAVM_TEST_PROGRAM=$PWD/build/out/dist/ya-vm
[ -x "$YAVM_TEST_PROGRAM" ] || { echo 'dist-test: there is no program in build/out/dist: make dist' >&2; exit 1; }
# These parts of test/lib start it.
starts='/(ya-vm|exe-unit-activity|runtime-activity|vpn-vms|packaged)\.ts'
mapfile -t files < <(grep -lE "from '\.\./lib$starts'" test/vm/*.test.ts)
[ $# -eq 0 ] || files=("$@")
exec build/node.sh test/run.ts "${files[@]}"
