"""Statements that ask for too much: each ends in an answer or an error with a SQLSTATE, soon, and
the server stays up."""
import sys
import time

import psycopg


def connect():
    return psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=asofdb dbname=asofdb", autocommit=True)


def listed(count, item=str, separator=","):
    return separator.join(map(item, range(count)))


c = connect()
c.execute("CREATE SOURCE t (id BIGINT, k TEXT, v BIGINT, ts TIMESTAMPTZ) EVENT TIME ts")
c.execute("CREATE ENTITY e (k TEXT)")
c.execute("CREATE FEATURE s ON e AS SELECT sum(v) OVER (RANGE UNBOUNDED PRECEDING) FROM t")
# The SQLSTATE, or None where an answer is expected.
cases = {
    "terms": ("SELECT " + listed(20_000, separator="+"), "54001"),
    "conditions": ("SELECT 1 WHERE " + listed(20_000, lambda i: f"1={i}", " OR "), "54001"),
    "parentheses": ("SELECT " + "(" * 100_000 + "1" + ")" * 100_000, "54001"),
    "subqueries": ("SELECT * FROM " + "(SELECT * FROM " * 500 + "t" + ") x" * 500, "54001"),
    "cases": ("SELECT " + "CASE WHEN 1=1 THEN " * 5_000 + "1" + " END" * 5_000, "54001"),
    "text": ("SELECT '" + "x" * (17 << 20) + "'", "54000"),
    "name": ("SELECT 1 AS " + "a" * 100_000, "42622"),
    "columns": ("SELECT " + listed(2_000, lambda i: f"{i} AS c{i}"), "54011"),
    "declared columns": ("CREATE SOURCE b (" + listed(2_000, lambda i: f"c{i} BIGINT") +
                         ", ts TIMESTAMPTZ) EVENT TIME ts", "54011"),
    "keys": ("SELECT count(*) FROM e WHERE k IN (" + listed(20_000, lambda i: f"'{i}'") + ")", None),
    "rows": ("INSERT INTO t VALUES " + listed(5_000, lambda i: f"({i}, 'k{i % 7}', 1, '2026-01-01')"), None),
    "features": ("CREATE FEATURES ON e AS SELECT " + listed(
        300, lambda i: f"sum(v) OVER (RANGE INTERVAL '{i + 1} minutes' PRECEDING) AS f{i}") + " FROM t", None),
    "joins": ("SELECT count(*) FROM t " + listed(8, lambda i: f"LEFT JOIN e e{i} ON e{i}.k = t.k", " "), None),
    "interval": ("SELECT now() - INTERVAL '99999999 years'", "22003"),
    "number": ("SELECT CAST('99999999999999999999' AS BIGINT)", "22P02"),
    "division": ("SELECT 1 / 0", "22012"),
}
for name, (statement, state) in cases.items():
    began = time.monotonic()
    try:
        c.execute(statement)
        got = None
    except psycopg.Error as error:
        got = error.sqlstate
        assert got, (name, error)
    if c.closed:
        c = connect()
    assert got == state, (name, got, state)
    assert time.monotonic() - began < 60, (name, "took too long")
# Keys are told apart whatever is in them.
keys = ["a:b", "", "a'b", 'x"y', "日本", "\x01", "a\\b", "k" * 10_000]
for number, key in enumerate(keys):
    c.execute("INSERT INTO t VALUES (1, %s, %s, '2026-01-01')", (key, number))
for number, key in enumerate(keys):
    assert c.execute("SELECT s FROM e WHERE k = %s", (key,)).fetchone() == (number,), key
try:
    c.execute("SELECT " + ",".join(["%s"] * 65_000), list(range(65_000)))
except psycopg.Error as error:
    assert error.sqlstate == "54011", error.sqlstate
else:
    raise AssertionError("65,000 parameters")
try:
    c.execute("INSERT INTO t VALUES (1, 'k', 9223372036854775807, '2026-01-02'), (1, 'k', 1, '2026-01-02')")
    c.execute("SELECT s FROM e WHERE k = 'k'")
except psycopg.Error as error:
    assert error.sqlstate == "22003", error.sqlstate
else:
    raise AssertionError("a sum beyond BIGINT")
assert connect().execute("SELECT count(*) FROM t").fetchone() == (5_010,)
