#!/usr/bin/env bash
# The script of the drivers in psql: simple protocol, text results.
set -euo pipefail
psql() { command psql -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U asofdb asofdb "$@"; }
port=$1

psql <<'SQL'
CREATE SOURCE transactions (id BIGINT, user_id BIGINT, merchant TEXT, amount DOUBLE PRECISION,
  fee NUMERIC(10, 2), ok BOOLEAN, ts TIMESTAMPTZ) EVENT TIME ts;
CREATE ENTITY users (user_id BIGINT);
CREATE FEATURES ON users AS
  SELECT count(*) OVER w AS n_1h, sum(amount) OVER w AS spend_1h, sum(fee) OVER w AS fees_1h,
         last_value(merchant) AS last_merchant, bool_and(ok) OVER w AS all_ok
  FROM transactions WINDOW w AS (RANGE INTERVAL '1 hour' PRECEDING);
BEGIN;
INSERT INTO transactions VALUES (1, 42, 'café', 0.1, 1.25, true, '2026-03-01 12:00:00Z');
INSERT INTO transactions VALUES (2, 42, 'b''s', 0.2, 0.05, NULL, '2026-03-01 12:30:00Z');
COMMIT;
SQL
printf '3\t7\tx\\ty\tNaN\t\\N\tf\t2026-03-01 12:45:00+00\n' |
  psql -c "COPY transactions FROM STDIN"
printf 'id,user_id,merchant,amount,fee,ok,ts\n4,42,"late, ""quoted""",1e2,3,t,2026-03-01T12:10:00Z\n' |
  psql -c "COPY transactions FROM STDIN WITH (FORMAT csv, HEADER)"

expect() {
  local got
  got=$(psql -c "$1")
  [ "$got" = "$2" ] || { printf 'query:    %s\nexpected: %s\ngot:      %s\n' "$1" "$2" "$got"; exit 1; }
}
as_of="FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2026-03-01 12:31:00Z'"
expect "SELECT * FROM users $as_of WHERE user_id = 42" \
       "42|3|100.3|4.30|b's|t"
expect "SELECT user_id, n_1h, spend_1h FROM users $as_of WHERE user_id IN (42, 99) ORDER BY user_id" \
       $'42|3|100.3\n99|0|'
expect "SELECT spend_1h FROM users FOR SYSTEM_TIME AS OF TIMESTAMPTZ '2026-03-01 13:00:00Z' WHERE user_id = 7" "NaN"
expect "SELECT l.k, u.n_1h FROM (VALUES (42, TIMESTAMPTZ '2026-03-01 12:05:00Z'), (5, TIMESTAMPTZ '2026-03-01 12:05:00Z')) AS l(k, t)
        LEFT JOIN users FOR SYSTEM_TIME AS OF l.t AS u ON u.user_id = l.k ORDER BY l.k" $'5|0\n42|1'
psql -c CHECKPOINT
expect "SELECT count(*) FROM transactions" 4
expect "SHOW CREATE ENTITY users" "CREATE ENTITY users (user_id BIGINT)"
psql -c "EXPLAIN SELECT n_1h FROM users WHERE user_id = 1" | grep -q OnlineLookup
if psql -c "SELECT nope FROM users" 2>"/tmp/asofdb-psql.$$"; then exit 1; fi
grep -q 'nope' "/tmp/asofdb-psql.$$"
rm -f "/tmp/asofdb-psql.$$"
psql -c "DROP SOURCE transactions CASCADE" -c "DROP ENTITY users"
