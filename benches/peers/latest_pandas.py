"""The latest profile as of each label in pandas: merge_asof. Arguments: folder, file to write."""
import sys

import pandas as pd

from cost import Cost

folder, file = sys.argv[1:3]
with Cost():
    labels = pd.read_parquet(f"{folder}/labels.parquet").sort_values("ts")
    profiles = pd.read_parquet(f"{folder}/profiles.parquet").sort_values("ts")
    joined = pd.merge_asof(labels, profiles, on="ts", by="user_id")
    joined.drop(columns=["user_id", "ts"]).to_parquet(file)
