# The commands of the project. CI runs the same.

.PHONY: quickstart test lint fmt bench

# Builds the server and tells the story of the flights; add ARGS="--serve" to go on.
quickstart:
	cargo run --profile quickstart --bin asofdb -- quickstart $(ARGS)

# All tests.
test: lint
	tests/install.sh
	PATH="$$(tests/install.sh --bin):$$PATH" cargo test --workspace
	tests/drivers/run.sh
	ASOFDB_PROFILE=quickstart benches/run.sh small

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt --all

# All benchmarks, next to the peers; takes about a quarter of an hour once built.
bench:
	benches/run.sh
