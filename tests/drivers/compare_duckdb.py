"""Computes the quickstart's training set with DuckDB, as standard SQL windows over the same files,
and compares value for value: integers and texts exactly, floats within 1e-9 relative."""
import sys

import duckdb

data, training = sys.argv[1:3]
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
for name in ("schedule", "departures", "landings", "weather"):
    db.execute(f"CREATE TABLE {name} AS SELECT *, file_row_number AS pos "
               f"FROM read_parquet('{data}/{name}.parquet', file_row_number = true)")
db.execute("CREATE TABLE labels AS SELECT *, scheduled_at - INTERVAL 1 HOUR AS t FROM schedule")


def windows(events, time, event_key, label_key, columns, frames, features):
    """Range windows: spine and events in one relation, only events counted."""
    nulls = ", ".join(f"NULL AS {column}" for column in columns)
    over = ", ".join(f"w{name} AS (PARTITION BY k ORDER BY t RANGE BETWEEN INTERVAL {width} PRECEDING "
                     "AND CURRENT ROW)" for name, width in frames.items())
    outputs = ", ".join(f"{value} AS {name}" for name, value in features.items())
    return f"""SELECT flight_id, {outputs} FROM (
        SELECT {event_key} AS k, {time} AS t, NULL AS flight_id, {", ".join(columns)} FROM {events}
        UNION ALL BY NAME SELECT {label_key} AS k, t, flight_id, {nulls} FROM labels)
        WINDOW {over} QUALIFY flight_id IS NOT NULL"""


def latest(events, time, key, label_key, features):
    """The last event at or before the instant, by number; the later in the file of two at one time."""
    outputs = ", ".join(f"{value} AS {name}" for name, value in features.items())
    names = ", ".join(f"e.{name}" for name in features)
    return f"""WITH e AS (
        SELECT {key} AS k, {time} AS t, {outputs},
               row_number() OVER (PARTITION BY {key} ORDER BY {time}, pos) AS number FROM {events}),
      u AS (SELECT k, t, number, NULL AS flight_id FROM e
            UNION ALL SELECT {label_key}, t, NULL, flight_id FROM labels),
      l AS (SELECT flight_id, k, max(number) OVER (PARTITION BY k ORDER BY t
                   RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number
            FROM u QUALIFY flight_id IS NOT NULL)
      SELECT l.flight_id, {names} FROM l LEFT JOIN e ON e.k = l.k AND e.number = l.number"""


EVENT = "FILTER (flight_id IS NULL)"
WIDTHS = {"1h": "1 HOUR", "24h": "24 HOUR", "7d": "7 DAY"}
parts = {
    "airport_departures": windows("departures", "departed_at", "origin", "origin", ["dep_delay", "carrier"], WIDTHS, {
        "departures_1h": f"count(*) {EVENT} OVER w1h", "dep_delay_1h": "avg(dep_delay) OVER w1h",
        "dep_delay_24h": "avg(dep_delay) OVER w24h", "dep_delay_7d": "avg(dep_delay) OVER w7d",
        "worst_delay_24h": "max(dep_delay) OVER w24h", "delay_spread_24h": "stddev_samp(dep_delay) OVER w24h",
        "carriers_1h": f"count(DISTINCT carrier) {EVENT} OVER w1h"}),
    "airport_weather": windows("weather", "observed_at", "origin", "origin", ["precip"], WIDTHS, {
        "precip_24h": "sum(precip) OVER w24h"}),
    "airport_latest": latest("weather", "observed_at", "origin", "origin", {
        "temp": "temp", "wind_speed": "wind_speed", "precip": "precip", "visib": "visib",
        "worst_visib_6": "min(visib) OVER (PARTITION BY origin ORDER BY observed_at, pos ROWS 5 PRECEDING)"}),
    "carrier_departures": windows("departures", "departed_at", "carrier", "carrier", ["dep_delay"], WIDTHS, {
        "carrier_departures_1h": f"count(*) {EVENT} OVER w1h", "carrier_dep_delay_1h": "avg(dep_delay) OVER w1h",
        "carrier_dep_delay_24h": "avg(dep_delay) OVER w24h", "carrier_dep_delay_7d": "avg(dep_delay) OVER w7d",
        "carrier_late_24h": "count(*) FILTER (flight_id IS NULL AND dep_delay > 15) OVER w24h",
        "carrier_late_share_24h": "(count(*) FILTER (flight_id IS NULL AND dep_delay > 15) OVER w24h)::DOUBLE "
                                  f"/ nullif(count(*) {EVENT} OVER w24h, 0)"}),
    "carrier_landings": windows("landings", "landed_at", "carrier", "carrier", ["arr_delay"], WIDTHS, {
        "carrier_arr_delay_24h": "avg(arr_delay) OVER w24h", "carrier_arr_delay_7d": "avg(arr_delay) OVER w7d"}),
    "plane_landings": windows("landings", "landed_at", "tailnum", "tailnum", ["air_time"], WIDTHS, {
        "plane_landings_24h": f"count(*) {EVENT} OVER w24h", "plane_air_time_7d": "sum(air_time) OVER w7d"}),
    "plane_latest": latest("landings", "landed_at", "tailnum", "tailnum", {
        "plane_last_arr_delay": "arr_delay", "plane_last_dest": "dest",
        "plane_arr_delay_last_5": "avg(arr_delay) OVER (PARTITION BY tailnum ORDER BY landed_at, pos ROWS 4 PRECEDING)"}),
}
db.execute(f"CREATE VIEW ours AS SELECT * FROM '{training}'")
(rows, distinct), = db.execute("SELECT count(*), count(DISTINCT flight_id) FROM ours").fetchall()
(expected,), = db.execute("SELECT count(*) FROM schedule").fetchall()
assert rows == distinct == expected, (rows, distinct, expected)
compared = differ = 0
for name, query in parts.items():
    db.execute(f"CREATE OR REPLACE TABLE theirs AS {query}")
    columns = [c for c, *_ in db.execute("DESCRIBE theirs").fetchall() if c != "flight_id"]
    for column in columns:
        kind, = db.execute(f"SELECT typeof({column}) FROM theirs LIMIT 1").fetchone()
        # A flight without a plane has no entity: all its features are NULL.
        theirs = f"CASE WHEN l.tailnum IS NULL THEN NULL ELSE t.{column} END" if name.startswith("plane") else f"t.{column}"
        same = (f"abs(o.{column} - v) <= 1e-9 * greatest(abs(o.{column}), abs(v))" if kind == "DOUBLE"
                else f"o.{column} = v")
        wrong, count = db.execute(f"""
            SELECT count(*) FILTER (NOT coalesce(({same}) OR (o.{column} IS NULL AND v IS NULL), false)), count(*)
            FROM ours o JOIN (SELECT t.flight_id, {theirs} AS v FROM theirs t JOIN labels l USING (flight_id)) USING (flight_id)
            """).fetchone()
        assert count == expected, (column, count)
        compared += count
        differ += wrong
        if wrong:
            print(f"{column}: {wrong} of {count} differ")
print(f"DuckDB: {compared:,} values compared, {differ} differ")
sys.exit(1 if differ else 0)
