#!/usr/bin/env bash
# All tests: style, lints, the tests of all packages, the drivers, and a moment of each benchmark for its answers.
# Installs what they need beside Rust and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
tests/install.sh
PATH="$(tests/install.sh --bin):$PATH" cargo test --workspace
tests/drivers/run.sh
ASOFDB_PROFILE=quickstart benches/run.sh small
