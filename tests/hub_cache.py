"""A hub's cache on disk, as `hf download` lays it out."""

import hashlib
from pathlib import Path


def lay_out_cache(folder: Path, cache: Path, name: str = "org/classifier", commit: str = "c" * 40) -> Path:
    """Put a model's folder into a cache: large files are named by SHA-256, the others by git's SHA-1.

    Args:
        folder: of the model.
        cache: where the cache is made.
        name: of the repository.
        commit: that its branch main is at.

    Returns:
        The snapshot's folder, of links.
    """
    root = cache / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    (root / "blobs").mkdir(exist_ok=True)
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        content = path.read_bytes()
        git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        blob = hashlib.sha256(content).hexdigest() if path.suffix == ".safetensors" else git
        (root / "blobs" / blob).write_bytes(content)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob}")
    return snapshot
