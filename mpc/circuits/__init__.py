"""Boolean circuits as immutable layers, and the matchers built from them."""
