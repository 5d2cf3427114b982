"""What a login costs, next to one bare RSA exponentiation of the same size. `python -m benchmarks`."""
