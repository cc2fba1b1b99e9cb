"""The response cache: whose answer it is, how long it is kept, where, and who shares one call that is still running."""
