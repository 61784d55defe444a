"""The training set in Polars: a rolling group for each window over events and labels together,
and an as-of join for the latest values. Arguments: folder, file to write, windows as JSON, and `distinct` for
the distinct counts, too."""
import json
import sys

import polars as pl

from cost import Cost

folder, file, windows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
distinct = "distinct" in sys.argv[4:]
amount, merchant = pl.col("amount"), pl.col("merchant_id")


def latest(events, labels):
    values = events.select("user_id", "ts", last_category="category", last_amount="amount").sort("ts")
    keys = labels.select("label_id", "user_id", "ts").sort("ts")
    joined = keys.join_asof(values, on="ts", by="user_id", check_sortedness=False)
    return joined.select("label_id", "last_category", "last_amount").collect()


def aggregates(name):
    calls = [amount.sum().alias(f"sum_{name}"), amount.count().alias(f"cnt_{name}"),
             amount.mean().alias(f"avg_{name}"), amount.min().alias(f"min_{name}"),
             amount.max().alias(f"max_{name}"), amount.std().alias(f"std_{name}")]
    if distinct and name in ("7d", "30d"):
        calls.append(merchant.drop_nulls().n_unique().alias(f"merchants_{name}"))
    return calls


with Cost():
    events, labels = pl.scan_parquet(f"{folder}/events.parquet"), pl.scan_parquet(f"{folder}/labels.parquet")
    nothing = {"amount": pl.lit(None, pl.Float64), "merchant_id": pl.lit(None, pl.Int64)}
    both = pl.concat([
        events.select("user_id", "ts", "amount", "merchant_id", label_id=pl.lit(None, pl.Int64)),
        labels.select("user_id", "ts", label_id="label_id", **nothing).select(
            "user_id", "ts", "amount", "merchant_id", "label_id"),
    ]).sort("user_id", "ts").collect()
    is_label = both["label_id"].is_not_null()
    result = latest(events, labels)
    for name, micros in windows:
        groups = both.rolling(index_column="ts", period=f"{micros}us", group_by="user_id", closed="both")
        # One row for each row of `both`, in its order.
        window = groups.agg(aggregates(name)).drop("user_id", "ts")
        window = window.with_columns(both["label_id"]).filter(is_label)
        result = result.join(window, on="label_id")
    result.write_parquet(file)
