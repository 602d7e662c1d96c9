"""The matrix runner: every model on every data set with every seed, each cell in its own process."""
