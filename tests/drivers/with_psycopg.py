"""Runs the script in psycopg 3, with results as text and as binary; then what only psycopg has."""
import datetime as dt
import math
import sys

import psycopg
import script

# psycopg prepares a statement after its fifth execution.
TIMES = 7


def run(c, step, binary):
    cursor = c.cursor(binary=binary)
    if step.data is not None:
        with cursor.copy(step.sql) as copy:
            copy.write(step.data)
    for _ in range(0 if step.data is not None else TIMES if step.kind == "query" else 1):
        cursor.execute(step.sql, step.values() or None)
        if step.kind == "query":
            if step.columns is not None:
                types = [psycopg.postgres.types[column.type_code].name for column in cursor.description]
                step.check_types("types", types, [declared for _, declared in step.columns])
            step.check_values([column.name for column in cursor.description], cursor.fetchall())
    if step.count is not None:
        step.same("rows written", cursor.rowcount, step.count)


def run_script(c, binary):
    for step in script.steps():
        if step.kind != "error":
            run(c, step, binary)
            continue
        try:
            run(c, step, binary)
        except psycopg.Error as error:
            step.check_error(error.sqlstate, str(error))
        else:
            raise AssertionError(f"no error: {step.sql}")


def copy_values(c):
    """COPY of values in place of text, in both formats, and psycopg's own transactions."""
    ts = dt.datetime(2025, 3, 1, 12, tzinfo=dt.timezone.utc)
    c.execute("CREATE SOURCE t (id BIGINT, name TEXT, amount DOUBLE PRECISION, ok BOOLEAN, ts TIMESTAMPTZ) EVENT TIME ts")
    with c.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write_row((1, "x\ty", math.nan, False, ts))
    with c.transaction(), c.cursor().copy("COPY t (id, ts, amount) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "timestamptz", "float8"])
        copy.write_row((2, ts, 100.0))
        copy.write_row((None, ts, None))
    with c.transaction():
        c.cursor().executemany("INSERT INTO t (id, ts) VALUES ($1, $2)", [(4, ts), (5, ts)])
    rows = c.execute("SELECT id, name, amount, ok FROM t ORDER BY id").fetchall()
    assert repr(rows) == ("[(1, 'x\\ty', nan, False), (2, None, 100.0, None), (4, None, None, None), "
                          "(5, None, None, None), (None, None, None, None)]"), rows
    c.execute("DROP SOURCE t")


connection = f"host=127.0.0.1 port={sys.argv[1]} user=asofdb dbname=asofdb"
# A raw cursor takes the script's placeholders, $1 and so on.
with psycopg.connect(connection, autocommit=True, cursor_factory=psycopg.RawCursor) as c:
    run_script(c, binary=False)
    run_script(c, binary=True)
    copy_values(c)
