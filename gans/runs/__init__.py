"""Cells: identities, running, tracking."""
