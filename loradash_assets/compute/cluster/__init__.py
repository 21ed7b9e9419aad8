"""A recording by many workers with a model each, on a Ray cluster: the same bytes as a single process writes."""
