#!/usr/bin/env bash
# Installs what the tests run beside the server: psql, Redis, and in a virtual environment of Python drivers, DuckDB
# and an S3 server. With --bin it says where that environment's programs are.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(realpath -m "${CARGO_TARGET_DIR:-target}/tests-venv")
if [ "${1:-}" = --bin ]; then
  echo "$venv/bin"
  exit
fi
missing=()
command -v psql >/dev/null || missing+=(postgresql-client)
command -v redis-server >/dev/null || missing+=(redis-server)
# Debian's python3 comes without venv.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} = 0 ] || { apt-get update -qq && apt-get install -y -qq "${missing[@]}"; }
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/drivers/requirements.txt
