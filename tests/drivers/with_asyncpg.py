"""The script of the drivers in asyncpg: everything prepared, everything binary."""
import asyncio
import datetime as dt
import math
import sys
from decimal import Decimal

import asyncpg

UTC = dt.timezone.utc


def at(hour, minute):
    return dt.datetime(2026, 3, 1, hour, minute, tzinfo=UTC)


async def main():
    c = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="asofdb", database="asofdb")
    await c.execute("""CREATE SOURCE transactions (id BIGINT, user_id BIGINT, merchant TEXT,
                       amount DOUBLE PRECISION, fee NUMERIC(10, 2), ts TIMESTAMPTZ) EVENT TIME ts""")
    await c.execute("CREATE ENTITY users (user_id BIGINT)")
    await c.execute("""CREATE FEATURES ON users AS
                       SELECT count(*) OVER w AS n_1h, sum(amount) OVER w AS spend_1h,
                              sum(fee) OVER w AS fees_1h, last_value(merchant) AS last_merchant
                       FROM transactions WINDOW w AS (RANGE INTERVAL '1 hour' PRECEDING)""")
    await c.executemany("INSERT INTO transactions VALUES ($1, $2, $3, $4, $5, $6)",
                        [(1, 42, "café", 0.1, Decimal("1.25"), at(12, 0)),
                         (2, 42, None, 0.2, Decimal("0.05"), at(12, 30))])
    await c.copy_records_to_table("transactions", records=[(3, 7, "x\ty", math.nan, None, at(12, 45)),
                                                           (4, 42, "late", 100.0, Decimal("3"), at(12, 10))])
    read = "SELECT * FROM users FOR SYSTEM_TIME AS OF $1 WHERE user_id = $2"
    for _ in range(3):
        row = await c.fetchrow(read, at(12, 31), 42)
        assert tuple(row) == (42, 3, 100.3, Decimal("4.30"), None), row
    rows = await c.fetch("SELECT user_id, n_1h FROM users FOR SYSTEM_TIME AS OF $1 "
                         "WHERE user_id = ANY($2) ORDER BY user_id", at(12, 31), [42, 99])
    assert [tuple(r) for r in rows] == [(42, 3), (99, 0)], rows
    assert math.isnan(await c.fetchval("SELECT spend_1h FROM users FOR SYSTEM_TIME AS OF $1 "
                                       "WHERE user_id = $2", at(13, 0), 7))
    join = """SELECT t.id, u.n_1h FROM transactions AS t
              LEFT JOIN users FOR SYSTEM_TIME AS OF t.ts AS u ON u.user_id = t.user_id
              WHERE t.amount > $1 ORDER BY t.id"""
    rows = await c.fetch(join, 0.15)
    assert [tuple(r) for r in rows] == [(2, 3), (3, 1), (4, 2)], rows
    async with c.transaction():
        got = [tuple(r) async for r in c.cursor("SELECT id FROM transactions ORDER BY id", prefetch=2)]
        assert got == [(1,), (2,), (3,), (4,)], got
    await c.execute("CHECKPOINT")
    assert await c.fetchval("SELECT count(*) FROM transactions") == 4
    for statement, error in [("SELECT nope FROM users", asyncpg.UndefinedColumnError),
                             ("SELECT * FROM nope", asyncpg.UndefinedTableError),
                             ("SELEKT 1", asyncpg.PostgresSyntaxError)]:
        try:
            await c.fetch(statement)
        except error:
            pass
        else:
            raise AssertionError(statement)
    await c.execute("DROP SOURCE transactions CASCADE; DROP ENTITY users")
    await c.reset()
    await c.close()


asyncio.run(main())
