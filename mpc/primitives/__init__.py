"""Primitives: randomness, hashing, strict CBOR, fixed-key AES, bit matrices, secret modular arithmetic, the base-OT group."""
