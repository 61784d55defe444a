"""The script of the drivers in psycopg 3: extended protocol, text and binary."""
import datetime as dt
import math
import sys
from decimal import Decimal

import psycopg

UTC = dt.timezone.utc


def at(hour, minute):
    return dt.datetime(2026, 3, 1, hour, minute, tzinfo=UTC)


with psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=asofdb dbname=asofdb", autocommit=True) as c:
    c.execute("""CREATE SOURCE transactions (id BIGINT, user_id BIGINT, merchant TEXT,
                 amount DOUBLE PRECISION, fee NUMERIC(10, 2), ok BOOLEAN, day DATE, ts TIMESTAMPTZ)
                 EVENT TIME ts""")
    c.execute("CREATE ENTITY users (user_id BIGINT)")
    c.execute("""CREATE FEATURES ON users AS
                 SELECT count(*) OVER w AS n_1h, sum(amount) OVER w AS spend_1h, sum(fee) OVER w AS fees_1h,
                        last_value(merchant) AS last_merchant, max(day) OVER w AS last_day,
                        max(ts) OVER w AS last_ts
                 FROM transactions WINDOW w AS (RANGE INTERVAL '1 hour' PRECEDING)""")
    rows = [(1, 42, "café", 0.1, Decimal("1.25"), True, dt.date(2026, 3, 1), at(12, 0)),
            (2, 42, None, 0.2, Decimal("0.05"), None, None, at(12, 30))]
    for row in rows:
        c.execute("INSERT INTO transactions VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
    with c.cursor().copy("COPY transactions FROM STDIN") as copy:
        copy.write_row((3, 7, "x\ty", math.nan, None, False, None, at(12, 45)))
    with c.cursor().copy("COPY transactions (id, user_id, ts, amount) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "int8", "timestamptz", "float8"])
        copy.write_row((4, 42, at(12, 10), 100.0))
    for binary in (False, True):
        cur = c.cursor(binary=binary)
        read = "SELECT * FROM users FOR SYSTEM_TIME AS OF %s WHERE user_id = %s"
        for _ in range(7):  # psycopg prepares after the fifth time
            got = cur.execute(read, (at(12, 31), 42)).fetchall()
            assert got == [(42, 3, 100.3, Decimal("1.30"), None, dt.date(2026, 3, 1), at(12, 30))], got
        got = cur.execute("SELECT user_id, n_1h FROM users FOR SYSTEM_TIME AS OF %s "
                          "WHERE user_id = ANY(%s) ORDER BY user_id", (at(12, 31), [42, 99])).fetchall()
        assert got == [(42, 3), (99, 0)], got
        got = cur.execute("SELECT spend_1h FROM users FOR SYSTEM_TIME AS OF %s WHERE user_id = %s",
                          (at(13, 0), 7)).fetchone()
        assert math.isnan(got[0])
        got = cur.execute("""SELECT t.id, u.n_1h FROM transactions AS t
                             LEFT JOIN users FOR SYSTEM_TIME AS OF t.ts - INTERVAL '1 microsecond' AS u
                             ON u.user_id = t.user_id WHERE t.user_id = %s ORDER BY t.id""", (42,)).fetchall()
        assert got == [(1, 0), (2, 2), (4, 1)], got
        c.execute("CHECKPOINT")
    with c.transaction():
        assert c.execute("SELECT count(*) FROM transactions").fetchone() == (4,)
    assert [r[0] for r in c.execute("SHOW FEATURES")] == ["users"] * 6
    for statement, state in [("SELECT nope FROM users", "42703"), ("SELECT * FROM nope", "42P01"),
                             ("SELEKT 1", "42601"), ("CREATE ENTITY users (user_id BIGINT)", "42P07"),
                             ("DROP SOURCE transactions", "2BP01"),
                             ("INSERT INTO transactions (id) VALUES (9)", "23502"),
                             ("SELECT CAST('x' AS BIGINT)", "22P02")]:
        try:
            c.execute(statement).fetchall()
        except psycopg.Error as error:
            assert error.sqlstate == state, (statement, error.sqlstate, str(error))
        else:
            raise AssertionError(statement)
    c.execute("DROP SOURCE transactions CASCADE")
    c.execute("DROP ENTITY users")
