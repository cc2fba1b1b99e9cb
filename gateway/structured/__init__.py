"""Answers in the shape that a caller asked for: bounded schemas, checks, corrections, and values while they grow."""
