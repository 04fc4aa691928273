"""python -m bench features: ops of features, and a click log's 39 columns, beside pandas, Arrow and plain torch."""
