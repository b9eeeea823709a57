"""Optional dependencies: the modules that each extra of the package brings, and the error where they are missing."""

from importlib.util import find_spec


# By extra, as in pyproject.toml: the modules that are imported of it.
EXTRAS = {
    "train": ("accelerate", "sklearn", "matplotlib"),
    "plots": ("matplotlib",),
    "annotate": ("aiohttp", "json_repair"),
    "curate": ("spacy",),
    "ray": ("ray",),
    "completion": ("shtab",),
}


def require_extra(extra: str, what: str) -> None:
    """Refuse to start what needs an extra that is not installed.

    Args:
        extra: one of `EXTRAS`.
        what: that needs it, for the message.

    Raises:
        ImportError: a module of the extra is missing; says what to install.
    """
    if missing := [name for name in EXTRAS[extra] if find_spec(name) is None]:
        raise ImportError(
            f"{what} needs datatrove-quality[{extra}]: pip install 'datatrove-quality[{extra}]' "
            f"({', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed)"
        )
