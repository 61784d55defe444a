"""DuckDB reads the history's folder as it is: for each source it finds the rows and the sums that AsofDB answers.

    read_history.py PORT HISTORY

HISTORY is the folder of the server on PORT. A source with retention is made, filled in several checkpoints and merged
first, so that files have been merged and rows have expired.
"""

import sys
from decimal import Decimal

import duckdb
import psycopg

NUMBERS = ("SMALLINT", "INTEGER", "BIGINT", "REAL", "DOUBLE PRECISION", "NUMERIC")


def fill(connection):
    """Five checkpoints, of which the last files are merged; a third of the rows is too old."""
    connection.execute(
        "CREATE SOURCE readings (k BIGINT, x DOUBLE PRECISION, n NUMERIC(12, 2), ts TIMESTAMPTZ) EVENT TIME ts "
        "WITH (retention = '10 days')"
    )
    connection.execute("CREATE ENTITY sensors (k BIGINT)")
    connection.execute("CREATE FEATURE readings_1h ON sensors AS SELECT count(*) OVER (RANGE INTERVAL '1 hour' PRECEDING) FROM readings")
    for checkpoint in range(5):
        rows = ", ".join(
            f"({(checkpoint * 7 + row) % 13}, {row * 0.1!r}, {row}.25, now() - INTERVAL '{(row * 11 + checkpoint) % 15} days')"
            for row in range(300)
        )
        connection.execute(f"INSERT INTO readings VALUES {rows}")
        connection.execute("CHECKPOINT")
    connection.execute("VACUUM")


def compare(connection, history):
    compared = 0
    for (source, *_) in connection.execute("SHOW SOURCES").fetchall():
        columns = [row[:2] for row in connection.execute(f'DESCRIBE "{source}"').fetchall()]
        sums = [f'sum("{name}")' for name, type_ in columns if type_.startswith(NUMBERS)]
        query = f"SELECT {', '.join(['count(*)'] + sums)} FROM"
        ours = connection.execute(f'{query} "{source}"').fetchone()
        files = f"read_parquet('{history}/data/{source}-*/*.parquet')"
        theirs = duckdb.connect().execute(f"{query} {files}").fetchone()
        for call, our, their in zip(["count(*)"] + sums, ours, theirs):
            # A sum of doubles is exact here and compensated there.
            near = isinstance(our, float) and abs(our - their) <= 1e-9 * max(abs(our), 1)
            same = our == their or (isinstance(our, Decimal) and our == Decimal(their)) or near
            assert same, f"{source}: {call} is {our!r}, DuckDB reads {their!r}"
            compared += 1
        assert ours[0] > 0, f"{source} is empty"
    return compared


def main():
    port, history = sys.argv[1:]
    with psycopg.connect(f"host=127.0.0.1 port={port} user=asofdb dbname=asofdb", autocommit=True) as connection:
        fill(connection)
        kept = connection.execute("SELECT count(*) FROM readings").fetchone()[0]
        assert 0 < kept < 1500, f"{kept} rows of 1500 are kept: nothing has expired, or everything"
        print(f"history read by DuckDB: {compare(connection, history)} counts and sums, 0 differ")


main()
