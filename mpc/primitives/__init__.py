"""Primitives: randomness, hashing, strict CBOR, AES, bit matrices, secret modular arithmetic, the OT group."""
