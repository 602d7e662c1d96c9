"""The matrix runner: every model on every data set from every seed, each cell in its own process."""
