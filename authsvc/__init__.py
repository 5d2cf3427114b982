"""The authentication server: HTTP in `api`, use cases in `services`, SQL in `store`; `app` wires them."""
