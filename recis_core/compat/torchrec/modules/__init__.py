"""Collections of tables, their configs, and dense layers beside them."""
