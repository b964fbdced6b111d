#!/bin/sh
# What `make run` shows: a VM that boots, and a command in it. YAVM_DEMO replaces the command.
out=$(dirname "$0")/out
command=${YAVM_DEMO:-'uname -a; echo "hello from PID $$ of a VM with $(nproc) CPU"; df -h / | tail -n 1'}
echo "\$ build/out/ya-vm run --usage -- sh -c '$command'"
exec "$out/ya-vm" run --usage -- sh -c "$command"
