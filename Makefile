# Everything goes through cargo; what make adds is the set-up that has to come first.
# `make` alone shows what there is.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo nightly test bench doctor

# Set to anything to leave libtorch, and with it training and export, out: make setup WITHOUT_TRAIN=1
WITHOUT_TRAIN ?=
PYTHON ?= python3
# More for `mdprop check`: make nightly CHECK="--format github"
CHECK ?=
# The pip that downloads libraries, if it is not $(PYTHON)'s own.
PIP ?=
# A folder with wheels that are already there, for a machine without network.
WHEELS ?=

TARGET := $(or $(CARGO_TARGET_DIR),target)
ONLY := $(if $(WITHOUT_TRAIN),--without-train)
FEATURES := $(if $(WITHOUT_TRAIN),--no-default-features)
PREREQUISITES = sh .ci/prerequisites.sh $(ONLY) --python "$(PYTHON)"
FILL = "$(PYTHON)" -S .ci/setup.py $(ONLY) $(if $(PIP),--pip "$(PIP)") $(if $(WHEELS),--wheels "$(WHEELS)")

help:
	@echo 'make demo      train, attack and report the emoji demo: reports/runs/demo/report.html'
	@echo 'make nightly   measure suites/nightly.toml and compare it with what was accepted (docs/drift.md)'
	@echo 'make test      everything that has to hold before a change is merged'
	@echo 'make bench     the criterion benchmarks: one training step, one gradient step, nearest neighbours'
	@echo 'make doctor    what is installed, what is found, what is wrong and how to put it right'
	@echo 'make setup     only fetch the native libraries into .deps/ (600 MB to download, 530 MB on disk)'
	@echo
	@echo 'WITHOUT_TRAIN=1  leave libtorch out: the evaluator alone (30 MB to download)'
	@echo 'WHEELS=FOLDER    take the wheels from a folder, for a machine without network'
	@echo 'LIBTORCH, ORT_DYLIB_PATH   if set, your own libraries are used and not fetched'

setup:
	@$(PREREQUISITES)
	@$(FILL)

demo:
	@$(PREREQUISITES) --npm
	@$(FILL)
	cargo build --release $(FEATURES)
	"$(TARGET)/release/mdprop" run suites/demo.toml

# A failed trial or check of the run (3 and up) is judged by the check; a broken set-up or a failed expectation ends here.
# The report is drawn again with the trend, in a bad night too; what cannot be compared (2) has none.
nightly: setup
	cargo build --release $(FEATURES)
	rm -rf reports/runs/nightly # finished trials are kept there and would be taken as they are
	"$(TARGET)/release/mdprop" run suites/nightly.toml || test $$? -ge 3
	"$(TARGET)/release/mdprop" check reports/runs/nightly --confirm suites/nightly.toml \
		--history reports/history.parquet --reports reports/runs/nightly/check $(CHECK); code=$$?; \
	test $$code = 2 || \
	"$(TARGET)/release/mdprop" report reports/runs/nightly --history reports/history.parquet; exit $$code

# The evaluator without libtorch and its tests are only checked: their dependencies are the ones already checked for clippy.
test: setup
	cargo fmt --check
	cargo clippy --release --all-targets $(FEATURES) -- -D warnings
	cargo clippy --release --no-default-features --all-targets -- -D warnings
	cargo test --release $(FEATURES)
	RUSTDOCFLAGS='-D warnings' cargo doc --release --no-deps $(FEATURES)

# Ratios within the run are compared with the accepted ones in reports/baselines/speed.toml; slower is a warning.
bench: setup
	cargo bench $(FEATURES)
	@if [ -f reports/baselines/speed.toml ]; \
	then cargo run --release $(FEATURES) -- speed --criterion "$(TARGET)/criterion"; \
	else echo 'no accepted ratios in reports/baselines/speed.toml: nothing to compare with'; fi

doctor: setup
	cargo build --release $(FEATURES)
	"$(TARGET)/release/mdprop" doctor
