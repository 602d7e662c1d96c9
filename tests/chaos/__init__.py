"""Kills, damage and servers that fail, at random, and what they cost: `make chaos`.

A trial disturbs a tiny matrix, sweep or tracking server at a moment that its seed chooses, runs the same
command again to its end, and compares what is tracked then with what an undisturbed run tracked.
"""
