"""Rows of any kind: JSON values of every type in any place, texts of any characters; seeded, and as many as wanted.

    PYTHONPATH=tests python tests/faults/hostile.py --rows 100000

sends them through a file, ConversationJsonlReader, ConversationAdapter and QualityFilter, and checks the accounts.
"""

import argparse
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from layout_rows import READ


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"

GOOD = (
    {"messages": [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": "Olá!"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Oi"}, {"type": "text", "text": "?"}]}]},
    {"conversations": [{"from": "human", "value": "Oi?"}, {"from": "gpt", "value": "Olá!"}], "system": "Seja breve."},
    {"instruction": "Some.", "input": "1 + 1", "output": "2"},
    {"prompt": "Oi?", "completion": "Olá!"},
    {"messages": '[{"role": "user", "content": "Oi?"}]', "metadata": {"source": "s"}},
    {"text": "Um texto.", "metadata": '{"a": 1}'},
    *(row for _, row, _ in READ),
)
KEYS = (
    "messages",
    "role",
    "content",
    "from",
    "value",
    "id",
    "text",
    "metadata",
    "quality_score",
    "rank",
    "",
    "ção",
    "_source",
    *("system", "history", "context", "chosen", "response", "choices", "tools", "parts", "type", "documents", "data"),
)
CHARACTERS = (
    "aé 0\n\t\"'\\{}[]<>&%$|", "\0\x01\x1b\x7f\x85\u2028\ufeff\ufffe", "‮‏‪", "🙂👩‍👩‍👧🇧🇷", "日本語", "\ud800\udfff",
)  # fmt: skip
PIECES = (
    "<|im_end|>",
    "<|im_start|>system\n",
    "<|endoftext|>",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "</s>",
    "../..",
    "NaN",
    "null",
)


def hostile_rows(count: int, seed: int = 0) -> Iterator[Any]:
    """Rows, of which some are good, most are damaged somewhere, and some are no rows at all."""
    rng = random.Random(seed)
    for index in range(count):
        row: Any = deepcopy(rng.choice(GOOD))
        row["id"] = f"row-{index}"
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            row = _damaged(row, rng)
        yield row


def _damaged(value: Any, rng: random.Random) -> Any:
    """The value with something else in one place, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.2:
            value[rng.choice(KEYS)] = value.pop(key)
        elif kind < 0.3:
            value[_text(rng)] = _any(rng)
        else:
            value[key] = _damaged(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        value[place:place] = [] if rng.random() < 0.7 else [_any(rng)]
        value[place] = _damaged(value[place], rng)
        return value
    if isinstance(value, str) and rng.random() < 0.5:
        place = rng.randint(0, len(value))
        return value[:place] + _text(rng) + value[place:]
    return _any(rng)


def _any(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 4 else 7)
    if kind == 7:
        return [_any(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {rng.choice([*KEYS, _text(rng)]): _any(rng, depth + 1) for _ in range(rng.randrange(4))}
    numbers = (
        rng.randint(-(10**9), 10**9),
        10 ** rng.randrange(40),
        rng.random(),
        float("nan"),
        float("-inf"),
        -0.0,
        1e308,
    )
    return (None, True, False, rng.choice(numbers), rng.choice(numbers), _text(rng), _text(rng))[kind]


def _text(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(PIECES)
    characters = rng.choice(CHARACTERS) if rng.random() < 0.9 else chr(rng.randrange(0x110000))
    return "".join(rng.choice(characters) for _ in range(rng.choice((0, 1, 3, 9, 300))))


def write_lines(path: Path, rows: Iterator[Any], seed: int = 0) -> int:
    """Write rows as JSONL, a few of them cut, doubled or with bytes that are no UTF-8; gives the number of lines."""
    rng = random.Random(seed)
    lines = 0
    with path.open("wb") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass").replace(b"\n", b" ")
            if rng.random() < 0.03 and len(line) > 1:
                line = line[: rng.randrange(1, len(line))]
            if rng.random() < 0.03:
                line += rng.choice((b"\xff\xfe", b"}", b"\0", b",,", line))
            file.write((line.strip() or b"x") + b"\n")
            lines += 1
    return lines


def check_accounts(lines: int, kept: int, excluded: int, stats: dict[str, float]) -> None:
    """Every line was written exactly once, and the statistics say so.

    Raises:
        AssertionError: they do not.
    """
    unscorable = sum(count for name, count in stats.items() if name.startswith("unscorable_"))
    assert kept + excluded == lines == stats["total"] == stats["forwarded"] + stats["dropped"]
    assert stats["scored"] + stats["unscorable"] == lines
    assert unscorable == stats["unscorable"]
    by_score = stats["dropped_below_min_score"]
    assert stats["dropped"] == by_score + stats["unscorable"]


def run(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Send hostile rows through reader, adapter, filter and writers; gives the filter's statistics.

    Raises:
        AssertionError: a row was lost or counted twice.
    """
    from datatrove.pipeline.writers import JsonlWriter
    from tiny_models import DECODER, chatml_tokenizer, save_model

    from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter, RowAdapter, ScorerConfig

    save_model(folder / "model", "qwen3", chatml_tokenizer(), **DECODER)
    (folder / "in").mkdir()
    lines = write_lines(folder / "in" / "rows.jsonl", hostile_rows(count, seed), seed)
    reader = ConversationJsonlReader(str(folder / "in"), adapter=ConversationAdapter())
    step = QualityFilter(
        ScorerConfig(model=str(folder / "model"), dtype="float32", device="cpu"),
        min_score=1.0,
        exclusion_writer=JsonlWriter(str(folder / "excluded"), adapter=RowAdapter(), compression=None),
        checkpoints_dir=folder / "checkpoints",
        special_tokens="reject",
    )
    writer = JsonlWriter(str(folder / "kept"), adapter=RowAdapter(), compression=None)
    for _ in writer.run(step.run(reader.run())):
        pass
    written = {name: _lines(folder / name) for name in ("kept", "excluded")}
    stats = Counter({name: stat.total for name, stat in step.stats.stats.items()})
    check_accounts(lines, written["kept"], written["excluded"], stats)
    return stats


def _lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*"))


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, and print what became of the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        stats = run(Path(folder), options.rows, options.seed)
    for name in sorted(name for name in stats if name.startswith("unscorable_")):
        print(f"{name:<40}{stats[name]:>9,.0f}")
    print(f"{stats['total']:,.0f} hostile rows, {stats['scored']:,.0f} scored; none lost, no exception")


if __name__ == "__main__":
    main()
