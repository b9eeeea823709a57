"""The number of calibrations on a corpus: trying until a certificate is issued would break the guarantee."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datatrove_quality.atomic_write import write_json
from datatrove_quality.model.digests import json_digest
from datatrove_quality.runs.inputs import Inputs


NAME = "attempts.json"


class Attempts:
    """The calibrations of one classifier at one threshold on one corpus, in a file.

    Args:
        folder: of the file; local.
        inputs: the corpus. Files with other names or sizes are another one.
        classifier: what makes its scores: `scored_by`, JSON values.
        min_score: the threshold.

    Raises:
        ValueError: the file is there and holds no attempts.
    """

    def __init__(self, folder: Path, inputs: Inputs, classifier: Mapping[str, Any], min_score: float):
        self._path = folder / NAME
        self._key = json_digest({"files": inputs.sizes, "classifier": classifier, "min_score": min_score})
        self._all = self._read()

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._path.read_bytes())
            return {str(key): list(made) for key, made in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{self._path} cannot be read as a record of calibrations: {error}.") from error

    def number(self, settings: Mapping[str, Any], new_sample: bool) -> int:
        """Which attempt this is, from 1 on. The same settings again are the same attempt, with the same result.

        Args:
            settings: JSON values: what the result depends on beside the corpus, the classifier and the threshold.
            new_sample: whether a further attempt may be made, on a sample of its own.

        Raises:
            ValueError: there was another attempt, and no further one may be made.
        """
        made = self._all.get(self._key, [])
        if settings in made:
            return made.index(settings) + 1
        if made and not new_sample:
            raise ValueError(
                f"This classifier was calibrated for this threshold on this corpus before ({len(made)} times), with "
                f"other settings: {_differences(made[-1], settings)}. Trying until a certificate is issued would make "
                "it worthless. With --new-sample another sample is drawn, and the attempt gets half of the last "
                "attempt's chance of being wrong."
            )
        return len(made) + 1

    def record(self, settings: Mapping[str, Any]) -> None:
        """Keep an attempt, before its result is seen."""
        made = self._all.setdefault(self._key, [])
        if settings not in made:
            made.append(dict(settings))
            write_json(self._path, self._all)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
