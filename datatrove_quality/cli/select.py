"""Select the best of scored documents up to a budget of tokens, or a share of them.

    datatrove-quality select scored/ --output selected/ --tokens 2e9
    datatrove-quality select scored/ --output selected/ --share 0.3 --by source

needs no model: it goes by the scores in the columns, exactly, whatever the number of tasks. Documents of one score are
ordered by a hash of their id. With --by the budget is divided among the column's values, in proportion to what each
has. `selected/kept` has the selected rows, `selected/excluded` the others with a `filter_reason`.

Give the whole output folder of `datatrove-quality filter`, not its kept/ alone.
"""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from datatrove_quality.cli.checks import require_writable
from datatrove_quality.cli.executor_options import add_executor_options
from datatrove_quality.cli.option_types import number, positive, share
from datatrove_quality.cli.options import add_verbose_option
from datatrove_quality.cli.running import execute, make_run
from datatrove_quality.rows.score_columns import require_prefix


if TYPE_CHECKING:
    from datatrove_quality.curation.ranking import BudgetEnd

RESUMES = True


def run(options: argparse.Namespace) -> None:
    """Select as the command line asks.

    Args:
        options: the command line.
    """
    require_prefix(options.prefix)
    require_writable(options.output)
    if options.tokens is not None and options.tokens < 1:
        raise ValueError(f"--tokens {options.tokens:g}: give a number of tokens from 1.")
    from datatrove_quality.curation.selection import Budget, SelectByBudget, find_ends
    from datatrove_quality.rows.to_document import ColumnsAdapter

    budget = Budget(options.tokens, options.share, options.by, options.prefix)
    started = make_run(options, "select")
    ends = find_ends(started.inputs, budget, options.id_key)
    cutoffs = {group: f"{end.cutoff:033x}" for group, end in sorted(ends.items())}
    step = SelectByBudget(budget, cutoffs, started.writer("excluded"))
    result = execute(started, [started.reader(ColumnsAdapter(options.id_key)), step, started.writer("kept")])
    print_ends(ends, "tokens" if options.tokens is not None else "documents")
    print(f"rows        {started.path('kept')}\nlogs        {started.path('logs')}")
    if result is not None and not any(end.selected_rows for end in ends.values()):
        print("warning: the budget holds no document.", file=sys.stderr)
    print(f"next        datatrove-quality report {shlex.quote(started.path('kept'))} --output DIR")


def print_ends(ends: "dict[str, BudgetEnd]", unit: str) -> None:
    """Print what is selected of each group."""
    from datatrove_quality.curation.ranking import score_of_key

    weight = unit == "tokens"
    print(f"{'':<24}{'documents':>14}{'selected':>12}" + f"{'tokens selected':>18}" * weight + f"{'from score':>14}")
    for group, end in sorted(ends.items()):
        lowest = f"{score_of_key(end.cutoff):.6g}" if end.selected_rows else "none"
        tokens = f"{end.selected_weight:>18,}" * weight
        print(f"{group[:24]:<24}{end.rows:>14,}{end.selected_rows:>12,}{tokens}{lowest:>14}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="SCORED", help="folder, file or glob in quotes, of rows with scores")
    add("--output", metavar="DIR", required=True, help="where kept/, excluded/ and logs/ are written")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=number, metavar="N", help="at most N tokens, such as 2e9")
    budget.add_argument("--share", type=share, metavar="X", help="the share X of the documents that have a score")
    add("--by", metavar="COLUMN", help="divide the budget among this column's values, such as those of source")
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
    add("--id-key", default="id", metavar="COLUMN", help="the column of the id (default: id)")
    add("--tasks", type=positive, metavar="N", help="parts that resume one by one (default: files)")
    add("--overwrite", action="store_true", help="delete an earlier run's output in DIR")
    parser.set_defaults(limit=-1)
    add_verbose_option(parser)
    add_executor_options(parser)
