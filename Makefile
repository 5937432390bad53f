# Skerry: the few commands that a newcomer needs. Each target is one line of intent; the work is in scripts/.

CARGO ?= cargo
DATA  ?= data
PORT  ?= 7117
BANK   = $(CARGO) run --quiet --release --package skerry --

.PHONY: help up down status test bench verify fix fuzz

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

up: ## build and start a bank of four branches on 127.0.0.1:$(PORT), in the background
	@scripts/check-machine build
	@$(CARGO) build --release --package skerry
	@target/release/skerry up --detach --data $(DATA) --listen 127.0.0.1:$(PORT) --sample 100

down: ## stop it; what it acknowledged stays
	@target/release/skerry down --data $(DATA)

status: ## branch, node, machine and cause of every fault
	@target/release/skerry status --data $(DATA)

test: ## everything that CI runs: checks, unit, property, scenario, power-cut, simulation, kill and fuzz tests
	@scripts/check-machine test
	@scripts/test

bench: ## the side-by-side measurements, with ratios to the peers
	@scripts/check-machine build
	@scripts/bench

verify: ## read-only checks: format, lints, licences, architecture
	@scripts/verify

fix: ## format and apply what clippy can mend by itself
	@$(CARGO) fmt --all
	@$(CARGO) clippy --fix --allow-dirty --workspace --all-targets
