"""Offline provisioning of split keys by security teams: the dealer's command `tandem-keys`.

Nothing here talks to a network. What leaves this room is a ceremony's folder, whose formats are in `mpc.provisioning`
and `mpc.threshold_rsa.share_package`.
"""
