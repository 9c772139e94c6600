"""Which pictures there are, whose, in which split, and how they stream to a network."""
