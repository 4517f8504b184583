"""Detection and redaction of secrets: the one place that decides what is a secret.

Bundles and start-up scripts must not contain secrets, since others can read them; machines have roles instead. Messages, settings and log
files show ``***`` in their place. A text that only looks random is not taken for a secret: tasks have many of these.
"""

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
_WHOLE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_LARGEST_KEY_BYTES = 64 << 10
_VARIABLES = re.compile(
    r"AWS_ACCESS_KEY_ID|(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY"
    r"|CREDENTIALS_JSON)|PGPASSWORD|.*SECRET_ACCESS_KEY.*",
    re.IGNORECASE,
)
#: The user information of a URL with a password, up to the last "@" before a path. The scheme is bounded, because a search for a longer one
#: takes time quadratic in the length of a text without spaces.
_LOGIN = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{0,30}://[^/\s@:]*:)(?P<secret>[^/\s\"'<>]+)(?=@)", re.IGNORECASE)
#: Parameters of a URL whose values are secret, those of libpq and of signed URLs among them.
_PARAMETER = re.compile(
    r"(?P<before>[?&](?:(?:ssl|access|auth|api)?[_-]?(?:password|passwd|token|key|secret)|oauth_client_secret"
    r"|scram_(?:client|server)_key|sig|x-(?:amz|goog)-(?:signature|security-token))=)(?P<secret>[^&#\s\"'<>]+)",
    re.IGNORECASE,
)
_GIT_TOKEN = re.compile(r"https?://[^/\s@]+@", re.IGNORECASE)
#: Tokens that begin with a prefix of their issuer. Sources: the issuers' documentation of the formats.
_TOKENS = {
    "an AWS access key": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\bxox[abposr]-[A-Za-z0-9-]{10,}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Google OAuth token": r"\bya29\.[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "an API key of OpenAI or Anthropic": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
}
_TOKEN = re.compile("|".join(f"(?:{pattern})" for pattern in _TOKENS.values()))
REDACTED = "***"


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
    for what, pattern in _TOKENS.items():
        if re.search(pattern, text):
            return f"it contains what looks like {what}"
    if _KEYS.search(text.encode(errors="replace")):
        return "it contains a private key"
    if _LOGIN.search(text) or _PARAMETER.search(text):
        return "it contains a URL with a password or token"
    return None


def redact(text: str) -> str:
    """Return a text with its secrets replaced by ``***``: passwords and tokens in URLs, known kinds of tokens, private keys."""
    for pattern in (_LOGIN, _PARAMETER):
        text = pattern.sub(rf"\g<before>{REDACTED}", text)
    text = _TOKEN.sub(REDACTED, text)
    return _WHOLE_KEY.sub(REDACTED, text)


def redact_variable(name: str, value: str) -> str:
    """Return the value of a variable for display, ``***`` if its name is that of a secret."""
    return REDACTED if value and _VARIABLES.fullmatch(name) else redact(value)


def secret_in_address(address: str) -> str | None:
    """Return which secret the URL of a repository seems to contain; None if there is none."""
    return "it contains credentials" if _GIT_TOKEN.match(address) else secret_in_text(address)
