"""Real images: data sets by name, folders, and the batches and shards that training takes of them."""
