"""The version of the library, as it is noted in ledgers and sent in events."""

VERSION = "0.1.0"
