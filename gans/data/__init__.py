"""Real images: data sets by name, folders, batches and shards."""
