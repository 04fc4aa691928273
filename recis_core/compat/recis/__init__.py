"""RecIS's module paths, names, arguments, defaults and meanings."""
