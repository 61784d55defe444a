"""The latest profile as of each label in Polars: an as-of join. Arguments: folder, file to write."""
import sys

import polars as pl

from cost import Cost

folder, file = sys.argv[1:3]
with Cost():
    labels = pl.scan_parquet(f"{folder}/labels.parquet").sort("ts")
    profiles = pl.scan_parquet(f"{folder}/profiles.parquet").sort("ts")
    joined = labels.join_asof(profiles, on="ts", by="user_id", check_sortedness=False)
    joined.drop("user_id", "ts").collect().write_parquet(file)
