#!/usr/bin/env bash
# Runs all benchmarks. Installs what the peers need: PostgreSQL's server and, for python3, the
# packages of benches/peers/requirements.txt. Sizes and rounds are flags of asofdb-bench:
#
#   benches/run.sh                                    what docs/performance.md shows
#   benches/run.sh --events 20000 --labels 2000 …     a small run, which only checks the answers
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${ASOFDB_PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
only=${ASOFDB_BENCH:-train serve ingest stores}

ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v pg_config >/dev/null ||
  { apt-get update -qq && apt-get install -y -qq postgresql; }
venv=$target/bench-venv
# Debian's python3 comes without venv.
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv" ||
  { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv "$venv"; }
"$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/peers/requirements.txt

cargo build --quiet --workspace --profile "$profile" --bins
bin=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
for benchmark in $only; do
  "$bin/asofdb-bench" "$benchmark" --asofdb "$bin/asofdb" --python "$venv/bin/python" "$@"
done
