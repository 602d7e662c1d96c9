"""Feature extractors: which there are, their weights, and how our own are trained."""
