"""Scorers whose classifiers have one trunk: a forward pass for one of them gives the logits of all.

The steps of a pipeline begin with the last: before a first document is read, each has said here which scorer it will
need. The first that needs its weights loads the heads of the others with them. What its forward passes give for the
others waits here until their steps ask for it. So does what a classifier gives that several steps need.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.lazy_model import LoadedModel
from datatrove_quality.engine.replicas import copy_to
from datatrove_quality.engine.store import Logit, text_key
from datatrove_quality.model.fingerprint import ProbeLogits
from datatrove_quality.model.found_model import FoundModel


if TYPE_CHECKING:
    from transformers import PreTrainedModel


# More than can be between two steps of a pipeline, unless one of them drops them.
MAX_WAITING = 2**16

_lock = threading.Lock()
_needed: Counter[ScorerConfig] = Counter()


@contextmanager
def needed(config: ScorerConfig | None) -> Iterator[None]:
    """Say that a scorer is needed while the block runs."""
    change = Counter({config: 1} if config is not None else {})
    with _lock:
        _needed.update(change)
    try:
        yield
    finally:
        with _lock:
            _needed.subtract(change)


def needed_configs() -> list[ScorerConfig]:
    """The configs of the scorers that are needed now, each as often as it is."""
    with _lock:
        return list((+_needed).elements())


class HandedOver:
    """Logits of a scorer that came with another's forward passes or another step's, until a stream asks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logits: OrderedDict[bytes, Logit] = OrderedDict()

    def put(self, text: str, logit: Logit) -> None:
        """Keep the logit of a rendered text; any thread may."""
        with self._lock:
            self._logits[text_key(text)] = logit
            if len(self._logits) > MAX_WAITING:
                self._logits.popitem(last=False)

    def take(self, texts: Iterable[str]) -> dict[str, Logit]:
        """The logits of those texts of which they are here."""
        if not self._logits:
            return {}
        with self._lock:
            found = ((text, self._logits.get(text_key(text))) for text in texts)
            return {text: logit for text, logit in found if logit is not None}


@dataclass
class Sharing:
    """A scorer that may share its trunk.

    Args:
        config: of the scorer.
        found: its classifier.
        require_same_files: raises a ValueError where these are no longer what they were when they were found.
        handed: takes its logits of others' forward passes.
        loaded: its classifier with its weights, once they are.
    """

    config: ScorerConfig
    found: FoundModel
    require_same_files: "Callable[[PreTrainedModel], None]"
    handed: HandedOver = field(default_factory=HandedOver)
    loaded: LoadedModel | None = None


def share_trunk(first: Sharing, others: Iterable[Sharing]) -> None:
    """Load the heads of other scorers onto the trunk of a first one, where it is theirs too; the log says which.

    Args:
        first: loaded. Its replicas' forward passes then give the logits of all.
        others: those that are loaded already, or have another trunk, stay as they are.
    """
    from datatrove_quality.model.trunk import Apart

    assert first.loaded is not None
    trunk = _Trunk(first)
    for other in others:
        try:
            if other.loaded is not None:
                raise Apart("it was loaded before")
            trunk.add(other)
        except (Apart, ValueError) as error:
            logger.info(f"{other.config.model} runs apart from {first.config.model}: {error}.")
        else:
            logger.info(f"{other.config.model} shares the trunk of {first.config.model}: one forward pass for both.")
    trunk.publish()


class _Trunk:
    """A loaded classifier, and the heads that are added to it, on each device."""

    def __init__(self, first: Sharing):
        from datatrove_quality.model.self_check import probes

        assert first.loaded is not None
        self._first = first
        self._loaded = first.loaded
        # `packed_logits` or `padded_logits`, which take further heads.
        self._forwards: list[Any] = [replica.forward for replica in self._loaded.replicas]
        self._probes: list[Any] = probes(self._loaded.model, first.found.renderer)
        self._members = [first]
        self._results: list[ProbeLogits] = [self._loaded.probes]
        self._heads: list[PreTrainedModel] = []

    def add(self, other: Sharing) -> None:
        """Load another's head and compare it with its own forward pass.

        Raises:
            Apart: the trunk is another.
            ValueError: the head's logits are not what they should be; loaded alone, the classifier tells more.
        """
        from datatrove_quality.model import self_check
        from datatrove_quality.model.loading import require_right_weights
        from datatrove_quality.model.trunk import Classifier, head_on_trunk, note_trunk

        first, model = self._first, self._loaded.model
        require_right_weights(other.config, other.found)
        classifiers = [Classifier(one.config, one.found) for one in (first, other)]
        head = copy_to(head_on_trunk(classifiers[0], model, classifiers[1]), model.device)
        other.require_same_files(model)  # which has its dtype
        if not self._heads:
            note_trunk(model)
        width = len(first.found.outputs.names)
        forward = partial(self._forwards[0], heads=[head])
        both = self_check.probe_logits(model, forward, self._probes)
        ours = [(tokens, logits[width:]) for tokens, logits in both]
        if not other.config.allow_constant_scores:
            self_check.require_varied_logits(model, ours)
        if other.config.self_check:
            own = self_check.own_logits(model, self._probes, self._loaded.own_attention, [head])
            self_check.require_own_logits(model, both, own)
        self._heads.append(head)
        self._members.append(other)
        self._results.append(ours)

    def publish(self) -> None:
        """Have the replicas compute all heads, and give each scorer its part of what they compute."""
        from datatrove_quality.model.trunk import note_trunk

        if not self._heads:
            return
        for place, (replica, forward) in enumerate(zip(self._loaded.replicas, self._forwards, strict=True)):
            if place:
                note_trunk(replica.model)
            heads = self._heads if not place else [copy_to(head, replica.model.device) for head in self._heads]
            replica.forward = partial(forward, heads=heads)
        widths = (len(member.found.outputs.names) for member in self._members)
        columns = [slice(*ends) for ends in pairwise(accumulate(widths, initial=0))]
        for place, member in enumerate(self._members):
            beside = [(columns[index], one.handed) for index, one in enumerate(self._members) if index != place]
            member.loaded = replace(
                self._loaded, probes=self._results[place], columns=columns[place], beside=tuple(beside)
            )
