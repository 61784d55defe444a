"""Runs the script in asyncpg: everything prepared, everything binary; then what only asyncpg has."""
import asyncio
import datetime as dt
import io
import math
import sys
from decimal import Decimal

import asyncpg
import script


async def run(c, step):
    if step.data is not None:
        # asyncpg's own functions for COPY write its statement themselves.
        tag = await c._copy_in(step.sql, io.BytesIO(step.data.encode()), None)
    else:
        statement = await c.prepare(step.sql)
        step.check_types("parameters", [p.name for p in statement.get_parameters()], [t for t, _ in step.params])
        for _ in range(3 if step.kind == "query" else 1):
            rows = await statement.fetch(*step.values())
            if step.kind == "query":
                check(step, statement.get_attributes(), rows)
        tag = statement.get_statusmsg()
    if step.count is not None:
        step.same("rows written", int(tag.split()[-1]), step.count)


def check(step, attributes, rows):
    if step.columns is not None:
        step.check_types("types", [a.type.name for a in attributes], [declared for _, declared in step.columns])
    step.check_values([a.name for a in attributes], [list(row) for row in rows])


async def run_script(c):
    for step in script.steps():
        if step.kind != "error":
            await run(c, step)
            continue
        try:
            await run(c, step)
        except asyncpg.PostgresError as error:
            step.check_error(error.sqlstate, str(error))
        else:
            raise AssertionError(f"no error: {step.sql}")


async def own_functions(c):
    """Several rows and several statements at once, COPY in both formats, a cursor, a reset."""
    ts = dt.datetime(2025, 3, 1, 12, tzinfo=dt.timezone.utc)
    await c.execute("""CREATE SOURCE t (id BIGINT, name TEXT, amount DOUBLE PRECISION, fee NUMERIC(10, 2), ts TIMESTAMPTZ)
                       EVENT TIME ts; CREATE ENTITY e (id BIGINT)""")
    await c.executemany("INSERT INTO t (id, ts) VALUES ($1, $2)", [(1, ts), (2, ts)])
    await c.copy_records_to_table("t", records=[(3, "x\ty", math.nan, None, ts), (4, None, 100.0, Decimal("3"), ts)])
    await c.copy_to_table("t", source=io.BytesIO(b"id,ts\n5,2025-03-01\n"), format="csv", header=True, columns=["id", "ts"])
    async with c.transaction():
        rows = [tuple(row) async for row in c.cursor(
            "SELECT id, name, amount, fee FROM t WHERE id > $1 ORDER BY id", 1, prefetch=2)]
    assert repr(rows) == ("[(2, None, None, None), (3, 'x\\ty', nan, None), (4, None, 100.0, Decimal('3.00')), "
                          "(5, None, None, None)]"), rows
    for aggregate, expected in [("count(*)", 1), ("avg(id)", 4.0)]:
        # asyncpg keeps the statement, and prepares it again when it is told that the type is another one.
        await c.execute(f"CREATE OR REPLACE FEATURE f ON e AS SELECT {aggregate} OVER () FROM t")
        assert await c.fetchval("SELECT f FROM e WHERE id = $1", 4) == expected
    await c.execute("DROP SOURCE t CASCADE; DROP ENTITY e")
    await c.reset()


async def main():
    c = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="asofdb", database="asofdb")
    await run_script(c)
    await own_functions(c)
    await c.close()


asyncio.run(main())
