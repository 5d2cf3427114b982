"""The WebAuthn face of the device: options in, client data, attestation and response JSON out."""
