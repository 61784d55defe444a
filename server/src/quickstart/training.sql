SELECT s.flight_id, s.carrier, s.tailnum, s.origin, s.dest, s.distance, s.scheduled_at,
       a.departures_1h, a.dep_delay_1h, a.dep_delay_24h, a.dep_delay_7d, a.worst_delay_24h,
       a.delay_spread_24h, a.carriers_1h, a.temp, a.wind_speed, a.precip, a.visib, a.precip_24h,
       a.worst_visib_6,
       c.departures_1h AS carrier_departures_1h, c.dep_delay_1h AS carrier_dep_delay_1h,
       c.dep_delay_24h AS carrier_dep_delay_24h, c.dep_delay_7d AS carrier_dep_delay_7d,
       c.late_24h AS carrier_late_24h, c.late_share_24h AS carrier_late_share_24h,
       c.arr_delay_24h AS carrier_arr_delay_24h, c.arr_delay_7d AS carrier_arr_delay_7d,
       p.last_arr_delay AS plane_last_arr_delay, p.last_dest AS plane_last_dest,
       p.arr_delay_last_5 AS plane_arr_delay_last_5, p.landings_24h AS plane_landings_24h,
       p.air_time_7d AS plane_air_time_7d,
       s.arr_delay AS label_arr_delay
FROM schedule AS s
LEFT JOIN airports FOR SYSTEM_TIME AS OF s.scheduled_at - INTERVAL '1 hour' AS a ON a.origin = s.origin
LEFT JOIN carriers FOR SYSTEM_TIME AS OF s.scheduled_at - INTERVAL '1 hour' AS c ON c.carrier = s.carrier
LEFT JOIN planes FOR SYSTEM_TIME AS OF s.scheduled_at - INTERVAL '1 hour' AS p ON p.tailnum = s.tailnum
