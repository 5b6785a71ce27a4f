"""Documents filled offline in bulk: shard by shard, on one machine or many, and restartable."""
