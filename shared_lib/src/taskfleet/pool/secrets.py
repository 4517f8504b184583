"""What looks like a secret. None may travel in a bundle or in a start-up script, which others can read: machines have roles instead."""

import re
from pathlib import PurePosixPath

#: Folders whose files are somebody's logins.
_FOLDERS = {".aws", ".azure", ".docker", ".gnupg", ".kube", ".oci", ".ssh"}
_FILES = re.compile(
    r"\.env(?:\..+)?|.+\.(?:pem|key|p12|pfx|jks|keystore|ppk|kdbx)|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"
    r"|\.netrc|_netrc|\.pgpass|\.pypirc|\.boto|\.s3cfg|\.git-credentials|\.htpasswd|\.dockercfg"
    r"|credentials(?:\.json|\.csv|\.ini)?|application_default_credentials\.json|client_secrets?.*\.json",
    re.IGNORECASE,
)
_EXAMPLES = re.compile(r"\.env\.(?:example|sample|template|dist)", re.IGNORECASE)
#: What private keys and the key files of service accounts hold; looked for in small files only.
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
    """Say whether a file of a project looks like a secret.

    Args:
        path: In the project, with slashes.
        content: Of the file.
    """
    parts = PurePosixPath(path).parts
    name = parts[-1]
    if _FOLDERS.intersection(parts[:-1]) or parts[-3:-1] == (".config", "gcloud"):
        return True
    if _FILES.fullmatch(name) and not _EXAMPLES.fullmatch(name):
        return True
    return len(content) <= _LARGEST_KEY_BYTES and _KEYS.search(content) is not None


def secret_in_variable(name: str, value: str) -> str | None:
    """Say what of an environment variable looks like a secret; None if nothing does."""
    if value and _VARIABLES.fullmatch(name):
        return "its name is that of a secret"
    return secret_in_text(value)


def secret_in_text(text: str) -> str | None:
    """Say what in a text looks like a secret, without showing it; None if nothing does."""
    if _ACCESS_KEY.search(text):
        return "it holds what looks like an AWS access key"
    if _KEYS.search(text.encode()):
        return "it holds a private key"
    if _LOGIN.search(text):
        return "it holds an address with a password"
    return None


def secret_in_address(address: str) -> str | None:
    """Say what in the address of a repository looks like a secret; None if nothing does."""
    return "it holds a login" if _GIT_TOKEN.match(address) else secret_in_text(address)
