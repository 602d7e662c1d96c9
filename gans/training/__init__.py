"""Training: the loop, update rules, losses, the average of weights."""
