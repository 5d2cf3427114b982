"""Interoperability vectors: the protocol run from published seeds, written down for implementers in other languages.

`python -m interop --write docs/vectors` runs the real code of `mpc` and `device_sdk` and writes what comes of it.
Nothing of a product imports this room: it chooses "randomness", and its keys are known to everybody.
"""
