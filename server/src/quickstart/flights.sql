-- Flights from New York in 2013. Four sources of events:
CREATE SOURCE schedule (
  flight_id BIGINT, carrier TEXT, flight BIGINT, tailnum TEXT, origin TEXT, dest TEXT,
  distance DOUBLE PRECISION, scheduled_at TIMESTAMPTZ, arr_delay DOUBLE PRECISION
) EVENT TIME scheduled_at;
CREATE SOURCE departures (
  flight_id BIGINT, carrier TEXT, tailnum TEXT, origin TEXT, dest TEXT,
  dep_delay DOUBLE PRECISION, departed_at TIMESTAMPTZ
) EVENT TIME departed_at;
CREATE SOURCE landings (
  flight_id BIGINT, carrier TEXT, tailnum TEXT, origin TEXT, dest TEXT,
  arr_delay DOUBLE PRECISION, air_time DOUBLE PRECISION, landed_at TIMESTAMPTZ
) EVENT TIME landed_at;
CREATE SOURCE weather (
  origin TEXT, observed_at TIMESTAMPTZ, temp DOUBLE PRECISION, dewp DOUBLE PRECISION,
  humid DOUBLE PRECISION, wind_dir DOUBLE PRECISION, wind_speed DOUBLE PRECISION,
  precip DOUBLE PRECISION, pressure DOUBLE PRECISION, visib DOUBLE PRECISION
) EVENT TIME observed_at;

COPY schedule FROM 'schedule.parquet';
COPY departures FROM 'departures.parquet';
COPY landings FROM 'landings.parquet';
COPY weather FROM 'weather.parquet';

-- Three entities, and what is known of each at any instant:
CREATE ENTITY airports (origin TEXT);
CREATE FEATURES ON airports AS
  SELECT count(*) OVER w1h AS departures_1h,
         avg(dep_delay) OVER w1h AS dep_delay_1h,
         avg(dep_delay) OVER w24h AS dep_delay_24h,
         avg(dep_delay) OVER w7d AS dep_delay_7d,
         max(dep_delay) OVER w24h AS worst_delay_24h,
         stddev_samp(dep_delay) OVER w24h AS delay_spread_24h,
         count(DISTINCT carrier) OVER w1h AS carriers_1h
  FROM departures
  WINDOW w1h AS (RANGE INTERVAL '1 hour' PRECEDING),
         w24h AS (RANGE INTERVAL '24 hours' PRECEDING),
         w7d AS (RANGE INTERVAL '7 days' PRECEDING);
CREATE FEATURES ON airports AS
  SELECT temp, wind_speed, precip, visib,
         sum(precip) OVER (RANGE INTERVAL '24 hours' PRECEDING) AS precip_24h,
         min(visib) OVER (ROWS 5 PRECEDING) AS worst_visib_6
  FROM weather;

CREATE ENTITY carriers (carrier TEXT);
CREATE FEATURES ON carriers AS
  SELECT count(*) OVER w1h AS departures_1h,
         avg(dep_delay) OVER w1h AS dep_delay_1h,
         avg(dep_delay) OVER w24h AS dep_delay_24h,
         avg(dep_delay) OVER w7d AS dep_delay_7d,
         count(*) FILTER (WHERE dep_delay > 15) OVER w24h AS late_24h
  FROM departures
  WINDOW w1h AS (RANGE INTERVAL '1 hour' PRECEDING),
         w24h AS (RANGE INTERVAL '24 hours' PRECEDING),
         w7d AS (RANGE INTERVAL '7 days' PRECEDING);
CREATE FEATURE late_share_24h ON carriers AS
  SELECT CAST(count(*) FILTER (WHERE dep_delay > 15) OVER (RANGE INTERVAL '24 hours' PRECEDING) AS DOUBLE PRECISION)
         / nullif(count(*) OVER (RANGE INTERVAL '24 hours' PRECEDING), 0)
  FROM departures;
CREATE FEATURES ON carriers AS
  SELECT avg(arr_delay) OVER (RANGE INTERVAL '24 hours' PRECEDING) AS arr_delay_24h,
         avg(arr_delay) OVER (RANGE INTERVAL '7 days' PRECEDING) AS arr_delay_7d
  FROM landings;

CREATE ENTITY planes (tailnum TEXT);
CREATE FEATURES ON planes AS
  SELECT last_value(arr_delay) AS last_arr_delay,
         last_value(dest) AS last_dest,
         avg(arr_delay) OVER (ROWS 4 PRECEDING) AS arr_delay_last_5,
         count(*) OVER (RANGE INTERVAL '24 hours' PRECEDING) AS landings_24h,
         sum(air_time) OVER (RANGE INTERVAL '7 days' PRECEDING) AS air_time_7d
  FROM landings;
