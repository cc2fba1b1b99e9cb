"""Commands of operators that concern money."""
