"""python -m bench cache: hit rates, step times and sizes of tables in tiers."""
