"""Forward passes in which tokens that several sequences begin with are computed once.

A packed row has each segment of a prefix tree once, at the positions of the text. In attention a segment's queries see
its own keys and those of the segments before it. Keys and values of the beginning that the next batch has in common
with this one are held for it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from datatrove_quality.model.attention import AttentionTerms, Kernel, Spans, per_sequence_attention
from datatrove_quality.model.forward import pack, to_device, up_to_pooled
from datatrove_quality.model.prefixes import MIN_SAVING, PrefixTree, prefix_tree


# A layer's keys and values of some tokens, each (tokens, key heads, dim).
States = tuple[Tensor, Tensor]
# Queries from one place to another, and keys that all of them see, or each up to its own.
Part = tuple[int, int, range]


@dataclass(frozen=True)
class Held:
    """What is known of the first tokens of a text.

    Args:
        ids: the tokens.
        states: of each attention layer.
    """

    ids: list[int]
    states: dict[nn.Module, States]

    @property
    def is_finite(self) -> bool:
        """Whether all of the states are finite numbers."""
        return all(bool(one.sum(dtype=torch.float32).isfinite()) for states in self.states.values() for one in states)


class SharedRow:
    """A packed row of the segments of a prefix tree, for one forward pass; a `Row` of attention.py.

    Keys are counted from the first held token, and behind those along the row.

    Args:
        sequences: token ids, each up to where the head reads it.
        tree: of the sequences.
        held: the tokens before the segments without parent; None: those begin their sequences.
        kept: how many tokens of the last sequence are to be held after this pass.
        device: where the model computes.
    """

    def __init__(
        self,
        sequences: Sequence[list[int]],
        tree: PrefixTree,
        held: Held | None,
        kept: int,
        device: torch.device,
    ):
        self.num_saved = sum(map(len, sequences)) - tree.num_tokens
        self._tree = tree
        self._held = held
        self._device = device
        self._shift = 0 if held is None else len(held.ids)
        ends = accumulate((one.end - one.start for one in tree.segments), initial=0)
        self._rows = list(pairwise(ends))
        self._chains = self._chains_of_keys()
        self._pooled = sorted(set(tree.last))
        self._kept_ids = sequences[-1][:kept]
        self._kept_states: dict[nn.Module, States] = {}
        segments = [sequences[one.sequence][one.start : one.end] for one in tree.segments]
        self.batch: dict[str, Any] = pack(segments, device, [one.start for one in tree.segments])
        # Where in the row the sequences' last tokens are, each once, ascending; and which of these is each sequence's.
        self.pooled = self._on_device([self._rows[place][1] - 1 for place in self._pooled])
        self.pooled_of = self._on_device([self._pooled.index(place) for place in tree.last])

    @property
    def kept(self) -> Held | None:
        """What is to be held after the pass."""
        return Held(self._kept_ids, self._kept_states) if self._kept_ids else None

    def spans(self, module: nn.Module, queries: int, keys: int) -> Spans:
        """Of the queries, and of the keys that each segment, or each pooled token, sees.

        Raises:
            ValueError: the model computes attention of other rows than it was given.
        """
        num_rows = self._rows[-1][1]
        if keys != num_rows or queries not in (num_rows, len(self._pooled)):
            raise ValueError(
                f"{type(module).__name__} computes attention of {queries} queries to {keys} keys, where the row has "
                f"{num_rows}"
            )
        return self._spans_of_row if queries == num_rows else self._spans_of_pooled

    def attend(
        self,
        module: nn.Module,
        kernel: Kernel,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Spans,
        terms: AttentionTerms,
    ) -> Tensor:
        """Attention of each segment, or each pooled token, to its keys and those before, in a kernel's shapes.

        Raises:
            ValueError: tokens see those behind them, or the layer computes attention twice.
        """
        if not terms.causal or module in self._kept_states:
            raise ValueError(f"{type(module).__name__} is not causal, or computes attention more than once")
        if self._kept_ids:
            self._kept_states[module] = self._states_of_kept(module, key, value)
        of_row = spans is self._spans_of_row
        if kernel is per_sequence_attention and _is_plain(query, value, terms):
            return self._attend_in_parts(module, query, key, value, terms.scale, of_row)
        if self._held is not None:
            key, value = (torch.cat(both) for both in zip(self._held.states[module], (key, value), strict=True))
        index = self._index_of_row if of_row else self._index_of_pooled
        return kernel(query, key[index], value[index], spans, terms)

    def _attend_in_parts(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scale: float, of_row: bool
    ) -> Tensor:
        """As `attend`, without a copy of the keys for each segment that sees them.

        Each part of the keys has a softmax of its own, and the parts are weighed by the sums of their exponentials.
        """
        query = query.unflatten(1, (key.shape[1], -1))
        output = query.new_empty(query.shape, dtype=torch.float32)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        own, before = (self._own, self._before) if of_row else (self._own_of_pooled, self._before_pooled)
        for start, end, keys in own:
            states = self._states(module, key, value, keys)
            output[start:end], sums[start:end] = _softmax(query[start:end], *states, scale, causal=of_row)
        for start, end, keys in before:
            states = self._states(module, key, value, keys)
            more, more_sums = _softmax(query[start:end], *states, scale, causal=False)
            output[start:end].lerp_(more.float(), torch.sigmoid(more_sums - sums[start:end])[..., None])
            sums[start:end] = torch.logaddexp(sums[start:end], more_sums)
        return output.flatten(1, 2).to(query.dtype)

    def _states(self, module: nn.Module, key: Tensor, value: Tensor, keys: range) -> States:
        """A layer's keys and values of tokens that are all held, or all in the row."""
        if self._held is not None and keys.stop <= self._shift:
            key, value = self._held.states[module]
            return key[keys.start : keys.stop], value[keys.start : keys.stop]
        own = slice(keys.start - self._shift, keys.stop - self._shift)
        return key[own], value[own]

    def _states_of_kept(self, module: nn.Module, key: Tensor, value: Tensor) -> States:
        parts = [self._states(module, key, value, keys) for keys in self._kept_keys]
        if self._kept_keys[-1].stop <= self._shift:
            return parts[0]  # held already
        key, value = (torch.cat(states) for states in zip(*parts, strict=True))
        return key, value

    def _chains_of_keys(self) -> list[list[range]]:
        """The keys that each segment sees."""
        chains: list[list[range]] = []
        for one, (start, end) in zip(self._tree.segments, self._rows, strict=True):
            own = range(self._shift + start, self._shift + end)
            before = [range(one.start)] * (one.start > 0) if one.parent is None else chains[one.parent]
            chains.append([*before, own])
        return chains

    @property
    def _own(self) -> list[Part]:
        """Each segment's queries and its own keys."""
        return [(*row, chain[-1]) for row, chain in zip(self._rows, self._chains, strict=True)]

    @property
    def _own_of_pooled(self) -> list[Part]:
        return [(index, index + 1, self._chains[place][-1]) for index, place in enumerate(self._pooled)]

    @cached_property
    def _before(self) -> list[Part]:
        """The queries that see keys before their segments, and those keys."""
        stop = [end for _, end in self._rows]
        for place in reversed(range(len(stop))):
            parent = self._tree.segments[place].parent
            if parent is not None:
                stop[parent] = max(stop[parent], stop[place])
        seen = []
        for one, (start, end), last, chain in zip(self._tree.segments, self._rows, stop, self._chains, strict=True):
            if last > end:
                seen.append((end, last, chain[-1]))
            if one.parent is None and one.start:
                if seen and seen[-1][1:] == (start, chain[0]):  # a neighbour that follows the same
                    start = seen.pop()[0]
                seen.append((start, last, chain[0]))
        return seen

    @cached_property
    def _before_pooled(self) -> list[Part]:
        rows = [self._rows[place][1] - 1 for place in self._pooled]
        parts = [(bisect_left(rows, start), bisect_left(rows, end), keys) for start, end, keys in self._before]
        return [part for part in parts if part[0] < part[1]]

    @cached_property
    def _spans_of_row(self) -> Spans:
        return self._spans([end - start for start, end in self._rows], self._chains)

    @cached_property
    def _spans_of_pooled(self) -> Spans:
        return self._spans([1] * len(self._pooled), self._pooled_chains)

    def _spans(self, queries: list[int], chains: list[list[range]]) -> Spans:
        keys = [sum(map(len, chain)) for chain in chains]
        query_ends, key_ends = (self._on_device([0, *accumulate(counts)]).int() for counts in (queries, keys))
        return Spans(query_ends, key_ends, max(queries), max(keys))

    @cached_property
    def _index_of_row(self) -> Tensor:
        return self._index(self._chains)

    @cached_property
    def _index_of_pooled(self) -> Tensor:
        return self._index(self._pooled_chains)

    @cached_property
    def _kept_keys(self) -> list[range]:
        """The keys of the tokens that are to be held."""
        keys, left = [], len(self._kept_ids)
        for part in self._chains[self._tree.last[-1]]:
            keys.append(part[:left])
            left -= len(keys[-1])
        return [part for part in keys if part]

    @property
    def _pooled_chains(self) -> list[list[range]]:
        return [self._chains[place] for place in self._pooled]

    def _index(self, chains: list[list[range]]) -> Tensor:
        parts = [torch.arange(keys.start, keys.stop) for chain in chains for keys in chain]
        return to_device(torch.cat(parts), self._device)

    def _on_device(self, numbers: list[int]) -> Tensor:
        return to_device(torch.tensor(numbers), self._device)


class SharedPrefixes:
    """Makes the rows of a model's batches, and holds what the next batch has in common with the last.

    Args:
        model: for which `is_packable` holds, with `PACKED` as its attention implementation.
    """

    def __init__(self, model: PreTrainedModel):
        self._model = model
        self._held: Held | None = None

    def row(self, sequences: Sequence[list[int]], kept: int = 0) -> SharedRow | None:
        """The row of a batch; None where its sequences share too little.

        Args:
            sequences: token ids, none empty.
            kept: with how many tokens the next batch begins like the last of these sequences.
        """
        held = self._held  # another stream's thread may replace it
        pad_token_id = self._model.config.get_text_config().pad_token_id
        cut = [list(up_to_pooled(ids, pad_token_id)) for ids in sequences]
        tree = prefix_tree(cut, None if held is None else held.ids)
        num_tokens = sum(map(len, cut))
        if not kept and num_tokens - tree.num_tokens < MIN_SAVING * num_tokens:
            return None
        return SharedRow(cut, tree, held, kept, self._model.device)

    def hold(self, row: SharedRow | None) -> None:
        """Keep what the next batch has in common with a row that was computed, and nothing else; None: nothing.

        Where a text is not finite, attention may have spoilt its beginning too, since a mask leaves 0 times NaN: that
        beginning is computed again for the texts that have it in common.
        """
        held = None if row is None else row.kept
        self._held = held if held is None or held.is_finite else None


def _is_plain(query: Tensor, value: Tensor, terms: AttentionTerms) -> bool:
    """Whether attention is a softmax over all keys that a CPU's operator computes, which also gives its sum."""
    is_plain = terms.window is None and terms.softcap is None and terms.sinks is None
    return is_plain and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]


def _softmax(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> States:
    """Attention, and the logarithms of the sums of its exponentials.

    Args:
        query: (tokens, key heads, groups, dim).
        key: (keys, key heads, dim), as value.
        scale: factor on the products.
        causal: whether there are as many queries as keys, and each sees its own and those before; else each sees all.
    """
    queries = query.permute(2, 1, 0, 3)
    states = (part.transpose(0, 1).expand(len(queries), -1, -1, -1) for part in (key, value))
    output, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, *states, is_causal=causal, scale=scale
    )
    return output.permute(2, 1, 0, 3), sums.permute(2, 1, 0)
