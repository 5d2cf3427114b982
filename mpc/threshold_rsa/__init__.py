"""RSA with the private exponent held as two additive shares."""
