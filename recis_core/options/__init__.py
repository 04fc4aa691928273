"""Options of tables, ranks and caches: plain values, which import nothing of what is built from them."""
