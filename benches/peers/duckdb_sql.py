"""Runs one SQL statement in DuckDB with its default settings."""
import sys

import duckdb

from cost import Cost

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
with Cost():
    connection.execute(sys.argv[1])
