"""Plant duplicates and garbage, whose counts are known, among the demo conversations: the input of `make curate-demo`.

    python examples/plant_garbage.py curate-demo/input             # writes conversations.jsonl there
    python examples/plant_garbage.py --check curate-demo/output    # was each planted row found, and for its reason?

Each planted row comes from a good row of the demo, and says in its columns what it is: `planted`, what it
must be dropped for, and `copy_of`, the row that it was made from. The same rows come out on every machine.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


CONVERSATIONS = Path(__file__).parent / "conversations.jsonl"
SEED = 5
FILES = 4
MIN_CHARS = 150  # of the last answer, so that a word more leaves a near duplicate

Row = dict[str, Any]
Turns = list[dict[str, str]]


def with_answer(turns: Turns, answer: str) -> Turns:
    """The conversation with another last answer."""
    return [*turns[:-1], {"role": "assistant", "content": answer}]


def cut_off(turns: Turns) -> Turns:
    """The last answer ends amid a sentence."""
    words = turns[-1]["content"].split()
    while not words[-1][-1].islower():
        words.pop()
    return with_answer(turns, " ".join(words)[:-1])


def looping(turns: Turns) -> Turns:
    """The last answer gets no further."""
    return with_answer(turns, turns[-1]["content"] + " e assim por diante, e assim por diante" * 20)


def repetitive(turns: Turns) -> Turns:
    """The last answer says one thing ten times before it comes to the point."""
    return with_answer(turns, "Muito boa pergunta essa sua. " * 10 + turns[-1]["content"])


def symbols(turns: Turns) -> Turns:
    """The answer is noise."""
    return with_answer(turns[-2:], " ".join(f"{number**3} %" for number in range(80)))


GARBAGE: dict[str, tuple[int, Callable[[Turns], Any]]] = {
    "exact_duplicate": (25, lambda turns: turns),
    "near_duplicate": (15, lambda turns: with_answer(turns, turns[-1]["content"] + " Abraço!")),
    "empty_answer": (8, lambda turns: with_answer(turns, " ")),
    "no_answer": (3, lambda turns: turns[:1]),
    "ends_without_answer": (6, lambda turns: [*turns, {"role": "user", "content": "E depois?"}]),
    "roles_do_not_alternate": (7, lambda turns: [*turns[:-1], *turns[-2:]]),
    "answer_cut_off": (9, cut_off),
    "answer_loops": (5, looping),
    "gopher_short_doc": (2, lambda turns: with_answer(turns[-2:], "!!!")),
    "gopher_below_alpha_threshold": (4, symbols),
    "repetition": (6, repetitive),
    "unscorable_not_a_list": (3, lambda turns: {"turns": turns}),
}
"""How many rows get which `filter_reason` (or whose step has which name), and how they are made of a good row's."""


def planted_rows(lines: list[str]) -> list[Row]:
    """The planted rows, in a random order.

    Args:
        lines: the demo conversations.
    """
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # one of the demo's own broken rows
    good = [row for row in rows if row.get("label") in (4, 5) and len(row["messages"][-1]["content"]) >= MIN_CHARS]
    choose = random.Random(SEED)
    originals = iter(choose.sample(good, sum(count for count, _ in GARBAGE.values())))
    planted = []
    for reason, (count, make) in GARBAGE.items():
        for number in range(count):
            row = next(originals)
            copy = {"id": f"{reason}-{number:02d}", "messages": make(row["messages"]), "label": 1}
            planted.append(copy | {"source": row["source"], "planted": reason, "copy_of": row["id"]})
    choose.shuffle(planted)
    return planted


def write(folder: Path) -> None:
    """Write the demo conversations and the planted rows, which come last, dealt out to some files."""
    lines = CONVERSATIONS.read_text(encoding="utf-8").splitlines()
    lines += [json.dumps(row, ensure_ascii=False) for row in planted_rows(lines)]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        text = "".join(f"{line}\n" for line in lines[number::FILES])
        (folder / f"conversations-{number}.jsonl").write_text(text, encoding="utf-8")
    print(f"{len(lines)} rows, {sum(count for count, _ in GARBAGE.values())} of them planted, written to {folder}")


def check(output: Path) -> None:
    """Exit with an error unless each planted row, or of duplicates the original, was dropped for its reason."""
    dropped = {
        (what, row.get("id"))
        for path in output.glob("excluded/*/*.jsonl")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for what in (row["filter_reason"], path.parent.name)
    }
    missed = []
    planted = planted_rows(CONVERSATIONS.read_text(encoding="utf-8").splitlines())
    for row in planted:
        ids = [row["id"], row["copy_of"]] if row["planted"].endswith("_duplicate") else [row["id"]]
        if sum((row["planted"], name) in dropped for name in ids) != 1:
            missed.append(row["id"])
    print(f"{len(planted) - len(missed)} of {len(planted)} planted rows were dropped for what is wrong with them")
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="FOLDER is the output of the curation")
    options = parser.parse_args()
    (check if options.check else write)(options.folder)
