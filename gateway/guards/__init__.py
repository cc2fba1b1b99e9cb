"""Content guards: what a text may not hold, found in linear time and held back until it has been looked at.

Pure: rules in, texts in, findings out. `gateway.stages.screen` puts them into the way of a call.
"""
