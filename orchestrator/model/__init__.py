"""The nouns: frozen values without behaviour that needs a clock, I/O or randomness. Loads nothing by itself."""
