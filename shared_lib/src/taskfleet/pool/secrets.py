"""Detection of secrets, which must not be in a bundle or a start-up script, since others can read these; machines have roles instead."""

import re
from pathlib import PurePosixPath

#: Folders with credentials.
_FOLDERS = {".aws", ".azure", ".docker", ".gnupg", ".kube", ".oci", ".ssh"}
_FILES = re.compile(
    r"\.env(?:\..+)?|.+\.(?:pem|key|p12|pfx|jks|keystore|ppk|kdbx)|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"
    r"|\.netrc|_netrc|\.pgpass|\.pypirc|\.boto|\.s3cfg|\.git-credentials|\.htpasswd|\.dockercfg"
    r"|credentials(?:\.json|\.csv|\.ini)?|application_default_credentials\.json|client_secrets?.*\.json",
    re.IGNORECASE,
)
_EXAMPLES = re.compile(r"\.env\.(?:example|sample|template|dist)", re.IGNORECASE)
#: The content of private keys and of service account keys; only small files are searched.
_KEYS = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_LARGEST_KEY_BYTES = 64 << 10
_VARIABLES = re.compile(
    r"AWS_ACCESS_KEY_ID|(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY"
    r"|CREDENTIALS_JSON)|PGPASSWORD|.*SECRET_ACCESS_KEY.*",
    re.IGNORECASE,
)
_ACCESS_KEY = re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])")
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:[^/\s@]+@", re.IGNORECASE)
_GIT_TOKEN = re.compile(r"https?://[^/\s@]+@", re.IGNORECASE)


def is_secret_file(path: str, content: bytes) -> bool:
    """Return whether a file of a project looks like a secret.

    Args:
        path: The path in the project, with slashes.
        content: The content of the file.
    """
    parts = PurePosixPath(path).parts
    name = parts[-1]
    if _FOLDERS.intersection(parts[:-1]) or parts[-3:-1] == (".config", "gcloud"):
        return True
    if _FILES.fullmatch(name) and not _EXAMPLES.fullmatch(name):
        return True
    return len(content) <= _LARGEST_KEY_BYTES and _KEYS.search(content) is not None


def secret_in_variable(name: str, value: str) -> str | None:
    """Return why an environment variable looks like a secret; None if it does not."""
    if value and _VARIABLES.fullmatch(name):
        return "its name is that of a secret"
    return secret_in_text(value)


def secret_in_text(text: str) -> str | None:
    """Return which secret a text seems to contain, without showing it; None if there is none."""
    if _ACCESS_KEY.search(text):
        return "it contains what looks like an AWS access key"
    if _KEYS.search(text.encode()):
        return "it contains a private key"
    if _LOGIN.search(text):
        return "it contains a URL with a password"
    return None


def secret_in_address(address: str) -> str | None:
    """Return which secret the URL of a repository seems to contain; None if there is none."""
    return "it contains credentials" if _GIT_TOKEN.match(address) else secret_in_text(address)
