"""Chat completions: the body's contract, its canonical form, and the counting of its tokens."""
