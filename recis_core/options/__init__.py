"""What tables, ranks and caches are made with: values that know nothing of what is built from them."""
