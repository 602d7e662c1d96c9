"""Kills, damage and servers that fail, at random, and what they cost: `make chaos`.

A trial disturbs a tiny matrix, sweep, tracking server or UI at a moment that its seed chooses, runs the same
command again to its end, and compares what is tracked then with what an undisturbed run tracked. It reads files
and the store without the code under test, so it can try any commit (`python -m tests.chaos --code CLONE`).
"""
