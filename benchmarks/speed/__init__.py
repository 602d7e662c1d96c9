"""How fast training is, beside its own arithmetic and beside how it is usually written."""
