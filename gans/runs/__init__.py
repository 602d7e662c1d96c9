"""A cell: what it is known by, how it runs, how it is tracked."""
