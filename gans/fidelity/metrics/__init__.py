"""The metrics, one file each; `gans.registry.METRICS` has a line for every one."""
