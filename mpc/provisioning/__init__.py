"""The documents of provisioning that dealer, server and device all read: recipients, manifests, ceremonies."""
