"""Choose a proxy's band on a sample of a corpus, and certify how many decisions a cascade would change.

    datatrove-quality calibrate data/ --model classifier/ --proxy student/ --min-score 4 \\
        --disagreement 0.01 --output cascade.json

draws rows at random, scores them with both, chooses the band on one half of them and certifies it on the other.
`filter --cascade cascade.json` uses it: docs/cascade.md. `cascade.svg` shows what other bands would give. The scores
are kept in `cascade.json.work`: stopped and started again, nothing is computed twice. Attempts on a corpus are
counted. Without `--proxy`, `--proxy-dtype bfloat16` makes a proxy of the classifier itself.
"""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove_quality.cli.checks import known_scale, require_local_classifier, require_thresholds
from datatrove_quality.cli.fields import filled
from datatrove_quality.cli.option_types import audit, number, positive, share
from datatrove_quality.cli.options import (
    CARD_MODEL,
    ROW_OPTIONS,
    add_classifier_options,
    add_rendering_options,
    add_row_options,
    add_verbose_option,
    messages_key,
    row_adapter,
)
from datatrove_quality.config import DTYPES, ScorerConfig
from datatrove_quality.rows.score_columns import require_prefix


if TYPE_CHECKING:
    from datatrove_quality.cascade.calibration import Calibration
    from datatrove_quality.cascade.values import Kind
    from datatrove_quality.proxies.attempts import Attempts
    from datatrove_quality.proxies.scores import PairedScores
    from datatrove_quality.runs.inputs import Inputs

RESUMES = True


def run(options: argparse.Namespace) -> None:
    """Calibrate as the command line asks.

    Args:
        options: the command line.

    Raises:
        SystemExit: no certificate was issued; says why.
    """
    require_consistent(options)
    from datatrove_quality.cascade.calibration import calibrate_cascade, promised_rows, rows_to_draw
    from datatrove_quality.cascade.values import scored_by
    from datatrove_quality.engine.scorer import find_scorer
    from datatrove_quality.model.found_model import pinned
    from datatrove_quality.proxies.scores import seconds_per_document
    from datatrove_quality.runs.inputs import find_inputs

    promise, output = promise_of(options), Path(options.output)
    inputs = find_inputs(options.input)
    # Both names are looked up before the first model's libraries are imported.
    scorer, proxy = map(find_scorer, [pinned(config) for config in models(options)])
    Path(f"{options.output}.work").mkdir(exist_ok=True)
    made_by = {"classifier": scored_by(scorer.describe()), "proxy": scored_by(proxy.describe())}
    attempts, settings = attempts_on(options, inputs, made_by)
    attempt = attempts.number(settings, options.new_sample)
    rows = options.rows or rows_to_draw(promise, options.confidence, attempt)
    print(promised_rows(promise, options.confidence, attempt))
    reading = reading_of(options)
    found = scored_sample(options, inputs, rows, attempt, (scorer.config, proxy.config), reading)
    costs = [seconds_per_document(one, found.inputs) for one in (scorer, proxy)]
    calibration = calibrate_cascade(
        found.scores,
        found.proxies,
        options.min_score,
        **promise,
        confidence=options.confidence,
        costs=costs,
        seed=attempt - 1,
        attempts=attempt,
        proxy=proxy.config,
        audit=options.audit,
    )
    attempts.record(settings)
    print_calibration(calibration, costs, attempt)
    if calibration.curve:
        draw_curve(calibration, promise, output)
    if calibration.cascade is None:
        sys.exit(f"no certificate: {calibration.reason}")
    tied = {"prefix": options.prefix, "reading": reading, "columns": row_adapter(options).settings, **made_by}
    calibration.cascade.with_certificate(**tied).save(output)
    used = f"--min-score {options.min_score:g} --cascade {output}"
    print(f"Written to {output}. Use it: datatrove-quality filter INPUT --output DIR {used}")


def models(options: argparse.Namespace) -> tuple[ScorerConfig, ScorerConfig]:
    """The classifier and the proxy."""
    scorer = filled(ScorerConfig, options)
    if options.proxy is None:
        return scorer, replace(scorer, dtype=options.proxy_dtype)
    return scorer, ScorerConfig(
        model=options.proxy,
        revision=options.proxy_revision,
        dtype=options.proxy_dtype or "auto",
        device=options.device,
        tokens_per_batch=options.tokens_per_batch,
    )


def promise_of(options: argparse.Namespace) -> "dict[Kind, float]":
    """The shares that are promised."""
    from datatrove_quality.cascade.values import KINDS

    return {kind: value for kind in KINDS if (value := getattr(options, kind)) is not None}


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `QualityFilter` that say what of a row is scored, and which rows are."""
    from datatrove_quality.cascade.values import READING

    values = vars(options) | {"messages_key": messages_key(options)}
    return {name: values[name] for name in READING}


def attempts_on(options: argparse.Namespace, inputs: "Inputs", made_by: dict[str, dict]) -> "tuple[Attempts, dict]":
    """The attempts so far, and the settings of this one."""
    from datatrove_quality.proxies.attempts import Attempts

    names = ("disagreement", "wrongly_dropped", "wrongly_kept", "confidence", "rows", "prefix")
    how = (*ROW_OPTIONS, "text", "allow_no_answer", "render_tools", "special_tokens")
    settings = {name: getattr(options, name) for name in names + how} | {"proxy": made_by["proxy"]}
    return Attempts(inputs, made_by["classifier"], options.min_score), json.loads(json.dumps(settings))


def scored_sample(
    options: argparse.Namespace,
    inputs: "Inputs",
    rows: int,
    attempt: int,
    models: tuple[ScorerConfig, ScorerConfig],
    reading: dict[str, Any],
) -> "PairedScores":
    """Rows drawn for this attempt, with both scores.

    Raises:
        ValueError: none of them can be scored.
    """
    from datatrove_quality.proxies.sample import draw_sample
    from datatrove_quality.proxies.scores import score_both

    sample = draw_sample(inputs, row_adapter(options), rows, f"calibration {attempt}")
    print(f"{len(sample.documents):,} of {sample.rows:,} rows drawn; attempt {attempt} on this corpus.")
    found = score_both(
        sample.documents,
        *models,
        options.min_score,
        options.checkpoints or f"{options.output}.work",
        **reading,
    )
    if found.unscorable:
        print(f"{found.unscorable:,} of them cannot be scored, and are left out.")
    if not found.scores:
        raise ValueError(f"input {options.input}: none of the rows that were drawn can be scored.")
    return found


def print_calibration(found: "Calibration", costs: list[float], attempts: int) -> None:
    """Print what the sample says of the band."""
    if found.band is None:
        return
    low, high = found.band
    print(f"band on the proxy's scale       {low:.6g} to {high:.6g}")
    print(f"decided as the classifier does  {found.agreement:.3%} of {found.rows:,} certifying rows")
    for bound in found.bounds:
        what = bound.kind.replace("_", " ")
        print(f"{what:<32}{bound.errors:,} of {bound.rows:,}, at most {bound.upper:.3%}; promise {bound.promised:.3%}")
    print(f"scored by the classifier        {found.rescored:.1%}")
    print(f"seconds a document              classifier {costs[0]:.3g}, proxy {costs[1]:.3g}")
    if not math.isnan(found.speed):
        print(f"expected speed                  {found.speed:.2f} times that of the classifier alone, audit included")
    if attempts > 1:
        divided = f"the chance of being wrong is divided by {2 ** (attempts - 1)}"
        print(f"attempts on this corpus         {attempts}: {divided}")


def draw_curve(found: "Calibration", promise: "dict[Kind, float]", output: Path) -> None:
    """Write the chart beside the cascade's file."""
    from datatrove_quality.atomic_write import write_atomic
    from datatrove_quality.proxies.curve import curve_svg

    chart = output.with_suffix(".svg")
    chosen = (found.rescored, 1 - found.agreement)
    write_atomic(chart, curve_svg(found.curve, chosen, promise.get("disagreement")))
    print(f"Other bands: {chart}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="the corpus: folder, file or glob in quotes")
    add("--output", required=True, metavar="FILE", help="of the cascade, in JSON")
    add("--min-score", required=True, type=number, metavar="X", help="the threshold: scores from X on are kept")
    add("--allow-outside-scale", action="store_true", help="take a threshold outside the scale of the scores")
    parser.set_defaults(max_score=None)
    add("--prefix", default="quality", help="of the score columns' names (default: quality)")
    add_rendering_options(parser)
    promise = parser.add_argument_group("promise: --disagreement, or the two others, or all")
    for kind, what in (
        ("disagreement", "of all decisions"),
        ("wrongly-dropped", "of what the classifier keeps, is dropped"),
        ("wrongly-kept", "of what the classifier drops, is kept"),
    ):
        promise.add_argument(f"--{kind}", type=share, metavar="SHARE", help=f"at most this share {what}")
    promise.add_argument("--confidence", type=share, default=0.95, metavar="X", help="default: 0.95")
    sample = parser.add_argument_group("sample")
    sample.add_argument(
        "--rows", type=positive, metavar="N", help="half choose, half certify (default: by the promise)"
    )
    sample.add_argument("--new-sample", action="store_true", help="a further attempt, on other rows, at its price")
    sample.add_argument("--checkpoints", metavar="DIR", help="where scores are kept (default: FILE.work)")
    sample.add_argument(
        "--audit",
        type=audit,
        default=0.005,
        metavar="SHARE",
        help="of what the proxy decides, scored by the classifier too (default: 0.005)",
    )
    proxy = parser.add_argument_group("proxy")
    proxy.add_argument("--proxy", metavar="MODEL", help="hub id or folder (default: the classifier, in --proxy-dtype)")
    proxy.add_argument("--proxy-revision", metavar="REVISION", help="branch, tag or commit on the hub")
    proxy.add_argument("--proxy-dtype", choices=DTYPES, help="default: auto")
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", default=CARD_MODEL, help=f"hub id or folder (default: {CARD_MODEL})")
    add_classifier_options(model)
    add_row_options(parser.add_argument_group("rows"))
    add_verbose_option(parser)


def require_consistent(options: argparse.Namespace) -> None:
    """Refuse what the options alone show to be a mistake; imports nothing heavy.

    Raises:
        ValueError: says what to change.
    """
    require_prefix(options.prefix)
    require_local_classifier(options.model, max_tokens=options.max_tokens)
    if options.proxy is not None:
        require_local_classifier(options.proxy, "--proxy")
    require_thresholds(options, known_scale(options))
    if options.disagreement is None and None in (options.wrongly_dropped, options.wrongly_kept):
        raise ValueError("give --disagreement, or --wrongly-dropped and --wrongly-kept together.")
    if options.proxy is None and options.proxy_dtype in (None, options.dtype):
        raise ValueError("give --proxy MODEL, or a --proxy-dtype that is not the classifier's --dtype.")
    if not Path(options.output).absolute().parent.is_dir():
        raise ValueError(f"--output {options.output}: there is no folder for it; make it first.")
    scorer, proxy = models(options)
    if proxy == scorer:
        raise ValueError(f"--proxy {proxy.model} is the classifier itself: give a cheaper one, or a --proxy-dtype.")
