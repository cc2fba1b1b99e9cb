"""Speaking to providers: requests out, events in, their errors mapped to ours. One module a dialect."""
