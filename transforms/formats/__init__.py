"""From slices of input files to raw blocks of records: a module a format, found by the registry."""
