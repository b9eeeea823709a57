"""Mistakes that local files show, found at once: before anything heavy is imported and before a model is loaded."""

import argparse
import json
import os
import tempfile
from pathlib import Path

from datatrove_quality.config import ScorerConfig, ScoreScale
from datatrove_quality.model.weights import ADAPTER_CONFIG, LONE_ADAPTER


def require_writable(output: str) -> None:
    """Refuse an output folder that cannot be written, without creating it.

    Args:
        output: a path; addresses of other storage, such as `s3://`, are not looked at.

    Raises:
        ValueError: it is a file, or nothing can be written there; names it, and the reason.
    """
    if "://" in output:
        return
    folder = Path(output).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):  # a file without a name, where the system has them
            return
    except OSError as error:
        where = "" if existing == folder else f" {existing}:"
        reason = "it is a file, not a folder" if not existing.is_dir() else error.strerror
        if existing.is_dir() and isinstance(error, FileNotFoundError):  # /proc and kin are there, but take no file
            reason = "nothing can be created there"
        raise ValueError(f"--output {output} cannot be written:{where} {reason}.") from error


def require_model_folder(model: str, option: str = "--model") -> None:
    """Refuse a model that can only be a local folder and does not exist, or a folder that holds no model.

    Args:
        model: `./x`, `/x`, `~/x` or a name with two slashes and more is a path; another one may be a hub id.
        option: that names it, for the message.

    Raises:
        ValueError: there is no such folder, or no config.json in it.
    """
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if is_path and not os.path.isdir(model):
        raise ValueError(
            f"{option} {model}: there is no folder {os.path.abspath(model)}; correct the path, or give a hub id "
            "'org/name'."
        )
    if os.path.isdir(model) and not os.path.isfile(os.path.join(model, "config.json")):
        if os.path.isfile(os.path.join(model, ADAPTER_CONFIG)):
            raise ValueError(f"{option} {model}: {LONE_ADAPTER}")
        raise ValueError(f"{option} {model}: the folder holds no config.json; give a folder with a whole model.")


def require_local_classifier(model: str, option: str = "--model", max_tokens: int | None = None) -> None:
    """As `require_model_folder`; of a folder, refuse also one whose files are no classifier's.

    Args:
        model: as there.
        option: as there.
        max_tokens: of a text; None: the model's own limit.

    Raises:
        ValueError: as there; or its config.json is no classifier's or has positions for fewer tokens, or it has no
            weights.
    """
    require_model_folder(model, option)
    if os.path.isdir(model):
        from datatrove_quality.model.found_model import require_classifier
        from datatrove_quality.model.weights import require_weights

        config, folder = ScorerConfig(model=model, max_tokens=max_tokens), Path(model)
        require_classifier(config, folder)
        require_weights(config, folder)


def require_thresholds(options: argparse.Namespace, scale: ScoreScale | None) -> None:
    """Refuse thresholds that keep nothing, or lie outside the scale of the scores.

    Args:
        options: with `min_score`, `max_score` and `allow_outside_scale`.
        scale: of the scores; None: not known yet, so that only the thresholds themselves are compared.

    Raises:
        ValueError: no score can be kept, or a threshold is not on the scale; says what may have been meant.
    """
    low, high = options.min_score, options.max_score
    if low is not None and high is not None and low > high:
        raise ValueError(
            f"--min-score {low:g} is above --max-score {high:g}: no score is kept; swap them, or omit one."
        )
    if scale is None or options.allow_outside_scale:
        return
    for name, value in (("--min-score", low), ("--max-score", high)):
        if value is not None and (wrong := scale.outside(value)):
            raise ValueError(f"{name} {wrong} If it is meant, add --allow-outside-scale.")


def known_scale(options: argparse.Namespace) -> ScoreScale | None:
    """The scale of a model's scores, as far as local files tell.

    Args:
        options: with `model`, `revision`, `scale` and `problem_type`.

    Returns:
        The scale that was given, that of the model's config.json, or the model card's if it has none; None: the model
        is not on this machine, or its score is made of probabilities or of one of several outputs.

    Raises:
        ValueError: the scale in config.json is not valid.
    """
    if options.scale is not None:
        return options.scale
    path = _config_file(options.model, options.revision)
    if path is None:
        return None
    try:
        values = json.loads(path.read_bytes())
        stored = values.get("score_scale")
    except (OSError, ValueError, AttributeError):  # loading the model tells more about it
        return None
    is_logit = (options.problem_type or values.get("problem_type")) in (None, "regression")
    if not is_logit or (stored is None and len(values.get("id2label") or "1") > 1):
        return None
    if stored is None:
        return ScoreScale()
    from datatrove_quality.model.found_model import stored_scale

    return stored_scale(options.model, stored)


def _config_file(model: str, revision: str | None) -> Path | None:
    """A model's config.json: of its folder, or from the hub's cache."""
    if os.path.isdir(model):
        path = Path(model, "config.json")
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
