#!/usr/bin/env bash
# Runs the benchmarks. Installs what they need beside the server: PostgreSQL's, Redis and, for python3, the packages
# of benches/peers/requirements.txt.
#
#   benches/run.sh              all of them, as docs/performance.md shows
#   benches/run.sh train serve  some of them
#   benches/run.sh small        all of them for a moment, to see that the answers agree
#
# What is printed goes to bench-report.md in the target folder, too, each table after the command that made it.
# More sizes, seeds and skews: asofdb-bench --help.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${ASOFDB_PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
names=("$@")
flags=() serve=() ingest=() freshness=() stores=() growth=()
if [ "${1:-}" = small ]; then
  names=()
  flags=(--events 20000 --labels 2000 --users 1000 --rounds 1)
  serve=(--seconds 0.1 --clients 2) ingest=(--inserted 1000 --piped 5000) freshness=(--seconds 0.5) stores=(--lookups 1000)
  growth=(--sizes 10000,20000 --features 1,10,100)
fi
[ ${#names[@]} -gt 0 ] || names=(train growth serve ingest freshness stores state)

ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
  { apt-get update -qq && apt-get install -y -qq postgresql; }
command -v redis-server >/dev/null || { apt-get update -qq && apt-get install -y -qq redis-server; }
venv=$target/bench-venv
# Debian's python3 comes without venv.
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv" ||
  { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv "$venv"; }
"$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/peers/requirements.txt

cargo build --quiet --workspace --profile "$profile" --bins
bin=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
report=$target/bench-report.md
echo "$(nproc) cores, $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, profile $profile" >"$report"
for name in "${names[@]}"; do
  own=()
  case $name in
    serve) own=("${serve[@]}") ;;
    ingest) own=("${ingest[@]}") ;;
    freshness) own=("${freshness[@]}") ;;
    stores) own=("${stores[@]}") ;;
    growth) own=("${growth[@]}") ;;
  esac
  command=("$bin/asofdb-bench" "$name" --asofdb "$bin/asofdb" --python "$venv/bin/python" "${flags[@]}" "${own[@]}")
  printf '\n```text\n%s\n```\n' "${command[*]}" | tee -a "$report"
  "${command[@]}" | tee -a "$report"
done
