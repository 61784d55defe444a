# The commands of the project. CI runs the same.

.PHONY: quickstart test fmt bench

# Builds the server and tells the story of the flights; add ARGS="--serve" to go on.
quickstart:
	cargo run --profile quickstart --bin asofdb -- quickstart $(ARGS)

# All tests.
test:
	tests/all.sh

fmt:
	cargo fmt --all

# All benchmarks, next to peers and floors; takes more than an hour.
bench:
	benches/run.sh
