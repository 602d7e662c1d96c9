"""Where and how arithmetic runs: devices, precision, convolutions."""
