"""The quality filters of a run before it starts: their models are found, and what they cannot score is refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from datatrove.pipeline.readers.base import BaseDiskReader
from loguru import logger

from datatrove_quality.cascade.values import Cascade
from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import find_scorer
from datatrove_quality.filter import QualityFilter
from datatrove_quality.model.fingerprint import DATE
from datatrove_quality.runs.inputs import Inputs, require_scorable
from datatrove_quality.runs.named_columns import require_named_columns
from datatrove_quality.runs.preparation import Preparation
from datatrove_quality.runs.provenance import require_one_scorer, require_same_scorer, require_scores


class Scoring:
    """The quality filters of a run. Settles each filter's scorer, so that all nodes compute the same.

    Args:
        filters: in the order in which documents pass through them.
        inputs: the files.
        adapter: makes a document of a row. None: the run's own reader is not used.
        executor: "local", "slurm" or "ray".
        recorded: the record of the run that the output folder holds, whose date of the chat template is used again.

    Raises:
        ValueError: a model cannot be found, the rows are not what the filters need, or scores would mix.
    """

    def __init__(
        self,
        filters: Sequence[QualityFilter],
        inputs: Inputs,
        adapter: Any,
        executor: str,
        recorded: dict[str, Any],
    ):
        self.filters = list(filters)
        self._recorded = _parts_of_scorers(recorded)
        self.weights: dict[int, int] = {}
        # Of each prefix, the scorer to look at on this machine; None: the rows have its scores already.
        self.scorers: dict[str, ScorerConfig | None] = {}
        self.made_by: dict[str, dict[str, Any] | None] = {}
        # The rows first: they are read in a moment, and the model's libraries take seconds to import.
        if adapter is not None and any(step.scorer is not None for step in self.filters):
            require_scorable(inputs, adapter)
        elif adapter is not None:
            require_named_columns(inputs, adapter)
        for step in self.filters:
            if step.scorer is not None:
                if step.cascade is not None and adapter is not None:
                    step.cascade.require_columns(getattr(adapter, "settings", {}))
                self._settle(step, inputs, executor)
            elif step.prefix not in self.scorers:
                self.scorers[step.prefix] = None
                if adapter is not None:
                    require_scores(inputs, adapter, step.prefix, step.score_of)
                self.made_by[step.prefix] = require_one_scorer(inputs, step.prefix)

    def _settle(self, step: QualityFilter, inputs: Inputs, executor: str) -> None:
        assert step.scorer is not None
        prepared = self._prepared(step.scorer, step.prefix, executor)
        step.scorer = prepared.scorer
        self.weights[id(step)] = prepared.weights
        found = find_scorer(prepared.here)
        if step.messages_key is not None:
            found.renderer.require_template()
        if step.reuse_scores:
            require_same_scorer(inputs, step.prefix, found)
        self.scorers[step.prefix] = prepared.here
        self.made_by[step.prefix] = step.expected_scorer = found.describe()
        if step.cascade is not None and step.cascade.proxy is not None:
            self._settle_cascade(step, step.cascade, step.cascade.proxy, executor)

    def _settle_cascade(self, step: QualityFilter, cascade: Cascade, proxy: ScorerConfig, executor: str) -> None:
        """Its proxy, too, is the same on all nodes, and its certificate holds for both models."""
        prepared = Preparation.of(proxy, executor)
        found = find_scorer(prepared.here)
        prepared_scorer = replace(prepared.scorer, template_date=found.config.template_date)
        step.cascade = replace(cascade, proxy=prepared_scorer)
        step.expected_proxy = found.describe()
        self.weights[id(step)] += prepared.weights
        classifier = find_scorer(cast(ScorerConfig, self.scorers[step.prefix]))
        cascade.require_models(classifier.describe(), found.describe())

    @property
    def all_answers(self) -> set[str]:
        """The prefixes of the filters that score all answers of a row."""
        return {step.prefix for step in self.filters if step.all_answers}

    @property
    def cascades(self) -> set[str]:
        """The prefixes of the filters that have a cascade."""
        return {step.prefix for step in self.filters if step.cascade is not None}

    def _prepared(self, scorer: ScorerConfig, prefix: str, executor: str) -> Preparation:
        """The classifier for the tasks, which all have one date: that of the run in the folder, if it had the same."""
        parts = self._recorded.get(prefix, {})
        if scorer.template_date is None and DATE in parts:
            again = Preparation.of(replace(scorer, template_date=parts[DATE]), executor)
            if find_scorer(again.here).fingerprint.parts == parts:
                logger.info(f"{scorer.model}: the date in texts is again {parts[DATE]}, as in the run in the folder.")
                return again
        prepared = Preparation.of(scorer, executor)
        date = find_scorer(prepared.here).config.template_date
        return replace(
            prepared,
            scorer=replace(prepared.scorer, template_date=date),
            here=replace(prepared.here, template_date=date),
        )

    def weights_of(self, filters: Sequence[QualityFilter]) -> int:
        """Bytes of the models of some filters; 0 where the tasks run on this machine."""
        return sum(self.weights.get(id(step), 0) for step in filters)

    def settings(self, step: QualityFilter) -> dict[str, Any]:
        """What of its scorer decides a filter's output."""
        made_by = self.made_by.get(step.prefix)
        if made_by is None:
            return {"scorer": None}
        kind = "computed" if step.scorer is not None else "from columns"
        outputs = {"outputs": made_by["outputs"]} if "outputs" in made_by else {}
        cascade = {} if step.cascade is None else {"cascade": _settings_of(step.cascade, step.expected_proxy or {})}
        return {"scores": kind, "scorer": made_by["parts"] | {"scale": made_by.get("scale")} | outputs} | cascade

    def described(self) -> list[dict[str, Any]]:
        """Each filter for readers of the run's record."""
        return [
            {
                "prefix": step.prefix,
                "scorer": self.made_by.get(step.prefix),
                "min_score": step.min_score,
                "max_score": step.max_score,
            }
            | ({} if step.cascade is None else {"cascade": _settings_of(step.cascade, step.expected_proxy or {})})
            for step in self.filters
        ]


def _settings_of(cascade: Cascade, proxy: dict[str, Any]) -> dict[str, Any]:
    """What of a cascade decides a filter's output; JSON values."""
    band = [edge if math.isfinite(edge) else str(edge) for edge in cascade.band]
    return {"band": band, "audit": cascade.audit, "proxy": proxy.get("parts", {}) | {"scale": proxy.get("scale")}}


def _parts_of_scorers(recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By prefix, the fingerprint's parts of each scorer in a run's record."""
    found = recorded.get("filters") or ()
    return {each["prefix"]: each["scorer"]["parts"] for each in found if each.get("scorer")}


def readable_record(filters: Sequence[dict[str, Any]], adapter: Any) -> dict[str, Any]:
    """What other commands read of a run, see `recorded_run`.

    Args:
        filters: of `Scoring.described`.
        adapter: of the run's reader.
    """
    columns = {
        "id_key": getattr(adapter, "id_key", None),
        "messages_key": getattr(adapter, "messages_key", None),
        "text": getattr(adapter, "text_key", None),
    }
    if not filters:
        return columns
    prefix = filters[0]["prefix"]
    bounds = {"min_score": None, "max_score": None}
    for found in filters:
        if found["prefix"] == prefix:
            bounds |= {name: found[name] for name in bounds if found[name] is not None}
    return columns | {"prefix": prefix, "scorer": filters[0]["scorer"]} | bounds


def tell_documents_per_task(pipeline: Sequence[Any], inputs: Inputs, tasks: int) -> None:
    """Tell a filter that comes directly after the reader how many documents each task reads, where that is known."""
    reader, *steps = pipeline
    if not isinstance(reader, BaseDiskReader) or not steps or not isinstance(steps[0], QualityFilter):
        return
    if steps[0].documents_per_task is None:
        steps[0].documents_per_task = inputs.documents_per_task(tasks, reader.limit)
