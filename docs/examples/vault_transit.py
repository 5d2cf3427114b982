#!/usr/bin/env python3
"""A `kek_command` for the transit engine of HashiCorp Vault or OpenBao: Python's standard library alone.

    kek_command.argv = ["/usr/bin/python3", "/etc/tandem/vault_transit.py", "https://vault.example:8200", "tandem", "1",
                        "/etc/tandem/vault-token"]

Arguments: the service's address, the name of an aes256-gcm96 key in transit/, its version, and a file with a token that
may use transit/encrypt/NAME and transit/decrypt/NAME and nothing else. Name the version: rotating the key in the
service changes nothing here until the version in the settings is changed and `authsvc rotate-kek` is run.
"""

import json
import sys
import urllib.error
import urllib.request

address, name, version, token_file = sys.argv[1:]
prefix = f"vault:v{version}:"


def ask(what: str, **fields: object) -> dict[str, str]:
    """One call to the transit engine. HTTPError for a status other than 200."""
    with open(token_file, encoding="ascii") as file:
        token = file.read().strip()
    request = urllib.request.Request(
        f"{address}/v1/transit/{what}/{name}",
        data=json.dumps(fields).encode("ascii"),
        headers={"X-Vault-Token": token, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=2.5) as answer:
        return json.load(answer)["data"]


question = json.load(sys.stdin)
try:
    if question["op"] == "wrap":
        given = {"plaintext": question["data"], "associated_data": question["context"], "key_version": int(version)}
        sealed = ask("encrypt", **given)["ciphertext"]
        if not sealed.startswith(prefix):
            sys.exit("another version of the key was used")
        data = sealed.removeprefix(prefix)
    else:
        given = {"ciphertext": prefix + question["data"], "associated_data": question["context"]}
        data = ask("decrypt", **given)["plaintext"]
except urllib.error.HTTPError as error:
    # 400 is what transit answers where the ciphertext does not open; anything else is no statement about it.
    if error.code != 400 or question["op"] == "wrap":
        raise
    print(json.dumps({"error": "refused"}))
else:
    print(json.dumps({"key_id": f"{name}:v{version}", "data": data}))
