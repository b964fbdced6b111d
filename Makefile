# Every target is one script; `make` alone lists them. README.md shows the two that a newcomer needs.
.DEFAULT_GOAL := help
# `everything` is `build` and what only tests and the bench need.
.PHONY: help setup build everything dist dist-test docs run test soak interop bench bench-report check format clean
MAKEFLAGS += --no-print-directory

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Debian packages, the pinned Node, npm packages
	@build/setup.sh

build: setup ## everything in build/out: launcher, /init, kernel, initramfs, demo image
	@build/node.sh build/main.ts

everything: setup
	@build/node.sh build/main.ts --tests

dist: setup ## what people install, in build/out/dist: one program, .tar.zst, .deb
	@build/node.sh build/main.ts --dist

dist-test: dist everything ## the VM tests with the packaged program, a bare Debian with the package, an upgrade
	@test/dist/run.sh

docs: setup ## pages that are made from data: docs/troubleshooting.md
	@build/node.sh build/docs.ts

run: build ## boot a VM, run a command in it, show its output
	@build/demo.sh

test: everything ## every test, with counts that fit CI
	@build/node.sh test/run.ts

soak: everything ## every test, with the full counts
	@YAVM_SOAK=1 build/node.sh test/run.ts

interop: setup ## the bus's suite against the real router, where cargo can build it
	@test/interop/run.sh

bench: everything ## measure; prints a table, writes build/out/bench.json
	@build/node.sh test/bench/run.ts

bench-report: setup ## draw docs/template-starts.svg of what the bench has measured
	@build/node.sh test/bench/report.ts

check: setup ## types, format and lint
	@build/node.sh node_modules/.bin/tsc
	@build/node.sh node_modules/.bin/biome check .

format: setup ## format every file
	@build/node.sh node_modules/.bin/biome check --write .

clean: ## remove what was built; keep downloads (build/cache)
	rm -rf build/out native/addon/build .tap
	rm -rf build/cache/steps
