"""The number of calibrations on a corpus: trying until a certificate is issued would break the guarantee."""

import json
from collections.abc import Mapping
from typing import Any

from datatrove_quality.atomic_write import write_json
from datatrove_quality.model.digests import cache_folder, json_digest
from datatrove_quality.runs.inputs import Inputs


FOLDER = "calibrations"


class Attempts:
    """The calibrations of one classifier at one threshold on one corpus, in a file of the user's cache folder.

    Args:
        inputs: the corpus. Files with other names or sizes are another one.
        classifier: what makes its scores: `scored_by`, JSON values.
        min_score: the threshold.

    Raises:
        ValueError: the file is there and holds no attempts, or there can be none.
    """

    def __init__(self, inputs: Inputs, classifier: Mapping[str, Any], min_score: float):
        key = json_digest({"files": inputs.sizes, "classifier": classifier, "min_score": min_score})
        self._path = cache_folder(FOLDER) / f"{key}.json"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._made: list[Any] = self._read()
        except OSError as error:
            raise ValueError(
                f"{self._path}, where calibrations are counted, cannot be used: {error.strerror}. Set XDG_CACHE_HOME "
                "to a folder that can be written to."
            ) from error

    def _read(self) -> list[Any]:
        try:
            return list(json.loads(self._path.read_bytes())["attempts"])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path} cannot be read as a record of calibrations: {error!r}.") from error

    def number(self, settings: Mapping[str, Any], new_sample: bool) -> int:
        """Which attempt this is, from 1 on. The same settings again are the same attempt, with the same result.

        Args:
            settings: JSON values: what the result depends on beside the corpus, the classifier and the threshold.
            new_sample: whether a further attempt may be made, on a sample of its own.

        Raises:
            ValueError: there was another attempt, and no further one may be made.
        """
        made = self._made
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
        """Keep an attempt, before its result is seen.

        Raises:
            ValueError: another calibration has been recorded since `number` was asked.
        """
        if settings in self._made:
            return
        if self._read() != self._made:
            raise ValueError(
                f"{self._path}: another calibration on this corpus ended meanwhile. Start again, with --new-sample."
            )
        self._made.append(dict(settings))
        write_json(self._path, {"attempts": self._made})


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
