"""Classifiers whose files are changed behind the back of what has read them; shared by the tests of loading."""

import os

from hub_cache import lay_out_cache
from safetensors.torch import load_file, save_file

from datatrove_quality import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import digests


TEXTS = ["Qual é a capital?", "Minha cor favorita é azul.", "código " * 30]


def scorer(model, **options):
    return Scorer(ScorerConfig(**{"model": str(model), "dtype": "float32", "device": "cpu"} | options))


def values(model, **options):
    return [score.score for score in scorer(model, **options).score(TEXTS)]


def damage(path, count=4_000, at=None):
    """Zeros in the place of bytes, and nothing that tells: same size, and the time of the last change is set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size - count if at is None else at)
        file.write(bytes(count))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def hide(monkeypatch):
    """As after a power failure or on a failing disk: the bytes are others, and nothing else has changed."""
    real = digests._Stamp.of
    monkeypatch.setattr(digests._Stamp, "of", lambda path: real(path)._replace(modified=0, changed=0))


def edit_weights(folder, **tensors):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file(weights, path, metadata={"format": "pt"})


def in_hub_cache(folder, cache, monkeypatch, name="org/classifier", commit="c" * 40):
    """The hub's cache of this process, with a classifier in it."""
    from huggingface_hub import constants

    snapshot = lay_out_cache(folder, cache, name, commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return snapshot


WIDTH = 64
