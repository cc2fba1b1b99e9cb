"""Commands of operators that concern the gateway."""
