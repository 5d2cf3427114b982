"""Every accepted form of a key file gives the same key; everything else is refused with a reason and no content."""

from __future__ import annotations

import base64
import pickle
import re
import textwrap

import pytest
import source_samples as samples
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from keys.sources import source_key
from keys.sources.source_key import MAX_SOURCE_BYTES, SourceKey, SourceKeyError, load_source_key
from keys.sources.weak_keys import WeakKey, refuse_weak

PASSPHRASE = b"correct horse battery staple"
_LIBRARY_KEY = rsa.generate_private_key(65537, 2048)
_NUMBERS = _LIBRARY_KEY.private_numbers()
EXPECTED = SourceKey(
    _NUMBERS.public_numbers.n,
    65537,
    _NUMBERS.d,
    _NUMBERS.p,
    _NUMBERS.q,
    (_NUMBERS.dmp1, _NUMBERS.dmq1, _NUMBERS.iqmp),
)
_UNDER_PASSPHRASE = BestAvailableEncryption(PASSPHRASE)
_PKCS12_LEGACY = (
    PrivateFormat.PKCS12.encryption_builder()
    .kdf_rounds(2000)
    .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
    .build(PASSPHRASE)
)


def saved(encoding: Encoding, form: PrivateFormat, encrypted: bool) -> bytes:
    return _LIBRARY_KEY.private_bytes(encoding, form, _UNDER_PASSPHRASE if encrypted else NoEncryption())


PLAIN = {
    "PKCS#1 PEM": saved(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, False),
    "PKCS#1 DER": saved(Encoding.DER, PrivateFormat.TraditionalOpenSSL, False),
    "PKCS#8 PEM": saved(Encoding.PEM, PrivateFormat.PKCS8, False),
    "PKCS#8 DER": saved(Encoding.DER, PrivateFormat.PKCS8, False),
    "PKCS#12": pkcs12.serialize_key_and_certificates(b"name", _LIBRARY_KEY, None, None, NoEncryption()),
    "PKCS#12 without MAC": samples.pkcs12_der(samples.pkcs8_der(EXPECTED)),
}
ENCRYPTED = {
    "PKCS#1 PEM": saved(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, True),
    "PKCS#8 PEM": saved(Encoding.PEM, PrivateFormat.PKCS8, True),
    "PKCS#8 DER": saved(Encoding.DER, PrivateFormat.PKCS8, True),
    "PKCS#12": pkcs12.serialize_key_and_certificates(b"name", _LIBRARY_KEY, None, None, _UNDER_PASSPHRASE),
    "PKCS#12 3DES": pkcs12.serialize_key_and_certificates(b"name", _LIBRARY_KEY, None, None, _PKCS12_LEGACY),
}


def refused(data: bytes, passphrase: bytes | None = None) -> str:
    with pytest.raises(SourceKeyError) as caught:
        load_source_key(data, passphrase)
    error = caught.value
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    assert "canary" not in str(error).lower() and PASSPHRASE.decode() not in str(error)
    return error.reason


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_key_loads(name: str) -> None:
    """With a passphrase as well: a batch has one for all its files, and some may not need it."""
    assert load_source_key(PLAIN[name], None) == EXPECTED
    assert load_source_key(PLAIN[name], PASSPHRASE) == EXPECTED
    refuse_weak(load_source_key(PLAIN[name], None))


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_key_loads_with_its_passphrase_only(name: str) -> None:
    data = ENCRYPTED[name]

    assert load_source_key(data, PASSPHRASE) == EXPECTED
    assert refused(data) == "needs_passphrase"
    assert refused(data, b"another") == refused(data, b"") == "wrong_passphrase"


def test_wrong_passphrases_are_always_told_as_such() -> None:
    """One in 256 wrong passphrases decrypts to something that looks padded; its reason must be no other."""
    data = saved(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, True)
    assert {refused(data, b"guess %d" % at) for at in range(1500)} == {"wrong_passphrase"}


def test_certificates_and_text_around_a_key_do_not_matter() -> None:
    around = (
        b"Bag Attributes\n    friendlyName: canary\n%b\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    assert load_source_key(around % PLAIN["PKCS#8 PEM"], None) == EXPECTED


def test_the_key_is_never_shown_or_pickled() -> None:
    key = load_source_key(PLAIN["PKCS#8 PEM"], None)
    assert str(key.private_exponent) not in repr(key) and str(key.p) not in repr(key) and "crt" not in repr(key)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)


def test_a_bundle_of_several_keys_is_refused() -> None:
    """Otherwise the first would be dealt and nobody would notice the others."""
    one, other = PLAIN["PKCS#8 PEM"], PLAIN["PKCS#1 PEM"]
    assert refused(one + other) == refused(other + ENCRYPTED["PKCS#8 PEM"]) == "several_keys"
    assert refused(one + other.replace(b"-----BEGIN RSA", b"----- BEGIN RSA")) == "several_keys"


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate(), dsa.generate_private_key(1024)],
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_keys_that_are_not_rsa_are_told_as_such(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey, encrypted: bool
) -> None:
    algorithm = _UNDER_PASSPHRASE if encrypted else NoEncryption()
    for encoding in (Encoding.PEM, Encoding.DER):
        assert refused(key.private_bytes(encoding, PrivateFormat.PKCS8, algorithm), PASSPHRASE) == "not_rsa"
    assert refused(pkcs12.serialize_key_and_certificates(b"n", key, None, None, algorithm), PASSPHRASE) == "not_rsa"


def test_an_elliptic_key_of_the_old_form_is_told_as_such() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert refused(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())) == "not_rsa"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0",
        b"canary",
        b"\x30\x80\x02\x01\x03canary\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x03\x02\x01\x03",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\ncanary\n",
        b"-----BEGIN CANARY PRIVATE KEY-----\nAAAA\n-----END CANARY PRIVATE KEY-----\n",
        _LIBRARY_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        _LIBRARY_KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        PLAIN["PKCS#8 DER"][:-1],
        PLAIN["PKCS#8 DER"] + b"\x00",
        b" " * (MAX_SOURCE_BYTES + 1),
    ],
)
def test_what_is_no_key_file_is_unreadable(data: bytes) -> None:
    assert refused(data) in {"unreadable", "needs_passphrase"}
    if not data.startswith(b"\x30\x03\x02\x01\x03"):
        assert refused(data) == refused(data, PASSPHRASE) == "unreadable"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"(DEK-Info: [A-Z0-9-]+,[0-9A-F]{20})[0-9A-F]+", rb"\1"),
        (rb"DEK-Info: [A-Z0-9-]+,", rb"DEK-Info: DES-EDE3-CBC,"),
        (rb"DEK-Info: [A-Z0-9-]+,", rb"DEK-Info: CANARY-CBC,"),
        (rb"DEK-Info: .*\n", rb""),
        (rb"(DEK-Info: .*\n)", rb"\1\1"),
        (rb"(Proc-Type: .*\n)", rb""),
    ],
)
def test_a_damaged_head_of_the_old_encryption_is_refused(old: bytes, new: bytes) -> None:
    """With a short initial value the library does not raise but panics, past every `except Exception`."""
    damaged = re.sub(old, new, ENCRYPTED["PKCS#1 PEM"])
    assert damaged != ENCRYPTED["PKCS#1 PEM"]
    assert refused(damaged, PASSPHRASE) in {"unreadable", "wrong_passphrase"}


def test_a_panic_of_the_library_is_an_unreadable_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real panic: the same file without the check that keeps it from the library."""
    monkeypatch.setattr(source_key, "_OLD_ENCRYPTION", re.compile(b"DEK-Info:"))
    damaged = re.sub(rb"(DEK-Info: [A-Z0-9-]+,[0-9A-F]{20})[0-9A-F]+", rb"\1", ENCRYPTED["PKCS#1 PEM"])
    assert refused(damaged, PASSPHRASE) == "unreadable"


def test_a_pkcs12_without_a_key_is_unreadable() -> None:
    assert refused(samples.pkcs12_der()) == "unreadable"


def test_a_key_of_three_primes_is_unreadable() -> None:
    """RFC 8017 allows more primes (version 1); no signature of ours could be made with one."""
    data = bytearray(samples.pkcs1_der(EXPECTED))
    version = data.index(b"\x02\x01\x00")
    data[version + 2] = 1
    assert refused(bytes(data)) == "unreadable"


@pytest.mark.parametrize("form", ["DER", "PEM", "PKCS#8"])
def test_an_inconsistent_key_loads_so_that_the_reason_can_be_told(form: str) -> None:
    """The library's own check would only say that the key is invalid."""
    broken = samples.with_changes(EXPECTED, private_exponent=EXPECTED.private_exponent + 2)
    data = samples.pkcs8_der(broken) if form == "PKCS#8" else samples.pkcs1_der(broken)
    if form == "PEM":
        body = "\n".join(textwrap.wrap(base64.b64encode(data).decode("ascii"), 64))
        data = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n".encode()

    loaded = load_source_key(data, None)

    assert loaded == broken
    with pytest.raises(WeakKey) as caught:
        refuse_weak(loaded)
    assert caught.value.reason == "inconsistent_exponent"


def test_an_inconsistent_key_in_pkcs12_is_refused_at_loading() -> None:
    broken = samples.with_changes(EXPECTED, private_exponent=EXPECTED.private_exponent + 2)
    assert refused(samples.pkcs12_der(samples.pkcs8_der(broken))) == "inconsistent"
    assert refused(samples.pkcs12_der(samples.pkcs8_der(broken)), PASSPHRASE) == "inconsistent"


def test_a_weak_key_in_pkcs12_loads_so_that_the_reason_can_be_told() -> None:
    p = samples.prime_after(samples.prime(1024))
    weak = samples.source_of(p, samples.prime_after(p + 2**500))

    loaded = load_source_key(samples.pkcs12_der(samples.pkcs8_der(weak)), None)

    with pytest.raises(WeakKey) as caught:
        refuse_weak(loaded)
    assert caught.value.reason == "close_primes"
