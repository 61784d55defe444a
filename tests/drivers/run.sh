#!/usr/bin/env bash
# Runs script.json in the drivers against the real binary (tests/script.rs runs it in tokio-postgres),
# then hostile statements; compares the quickstart's training set with DuckDB's and, bit for bit, with the
# oracle's; and has DuckDB read the history's folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${ASOFDB_PROFILE:-quickstart}
target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --profile "$profile" --bin asofdb --bin compare-oracle
asofdb=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")/asofdb

tests/install.sh
venv=$(dirname "$(tests/install.sh --bin)")

work=$(mktemp -d)
server=
redis=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

passed=0
# Serves the database in the folder $1 on $port.
serve() {
  # The log is there before it is looked into.
  : >"$1.log"
  "$asofdb" serve --listen 127.0.0.1:0 --data "$1" 2>"$1.log" &
  server=$!
  port=
  for _ in $(seq 100); do
    port=$(sed -n 's/.*ready for connections.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$1.log")
    [ -n "$port" ] && return
    sleep 0.1
  done
  cat "$1.log"
  exit 1
}
stop() {
  kill -TERM "$server"
  wait "$server"
  server=
}

# Each driver gets an empty database: they all run the same script.
for driver in with_psql with_psycopg with_asyncpg hostile; do
  serve "$work/$driver"
  "$venv/bin/python" "tests/drivers/$driver.py" "$port"
  stop
  echo "${driver#with_}: ok"
  passed=$((passed + 1))
done

"$asofdb" quickstart --data "$work/flights" >"$work/quickstart.log" || { cat "$work/quickstart.log"; exit 1; }
grep "differ" "$work/quickstart.log"

# The same story with the online state in Redis.
free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
redis_port=$(python3 -c "$free_port")
redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$work" --save "" --appendonly no >"$work/redis.log" &
redis=$!
for _ in $(seq 100); do redis-cli -p "$redis_port" ping >/dev/null 2>&1 && break; sleep 0.1; done
"$asofdb" quickstart --online "redis://127.0.0.1:$redis_port" >"$work/quickstart.log" ||
  { cat "$work/quickstart.log"; exit 1; }
grep "differ" "$work/quickstart.log"
kill "$redis"
wait "$redis" || true
redis=

"$venv/bin/python" tests/drivers/compare_duckdb.py tests/data "$work/flights/export/training.parquet"
"$(dirname "$asofdb")/compare-oracle" tests/data "$work/flights/export/training.parquet"
serve "$work/flights"
"$venv/bin/python" tests/drivers/read_history.py "$port" "$work/flights/history"
stop
passed=$((passed + 4))
echo "$passed passed, 0 failed"
