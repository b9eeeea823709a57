"""The stages of `datatrove-quality curate`: clean, drop duplicates, score, filter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupSignature,
    ExactFindDedups,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import LanguageFilter

from datatrove_quality.config import ScorerConfig
from datatrove_quality.curation.answer_filters import (
    LANGUAGE_FROM_CHARS,
    SHARES_FROM_CHARS,
    AnswerFilter,
    length_filter,
    repetition_filter,
    symbol_filter,
)
from datatrove_quality.curation.deduplication import (
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    DropExactDuplicates,
    exact_config,
    minhash_config,
    without_system,
)
from datatrove_quality.curation.personal_data import MaskPII
from datatrove_quality.curation.rule_filter import ConversationRules
from datatrove_quality.filter import QualityFilter
from datatrove_quality.rows.per_message import PerMessage
from datatrove_quality.runs.cluster import Cluster
from datatrove_quality.runs.run import Run
from datatrove_quality.runs.stages import Stage
from datatrove_quality.stats import QualityStats


# Parts of the search for exact duplicates, each with an equal share of the keys.
MAX_FINDERS = 16


@dataclass(frozen=True, kw_only=True)
class Curation:
    """What is kept of conversations, and how.

    Args:
        scorer: the classifier.
        min_score: see `QualityFilter`, as for `max_score`, `prefix`, `special_tokens`, `allow_no_answer` and
            `render_tools`.
        mask_pii: replace e-mail and IP addresses, CPF, CNPJ and phone numbers in messages.
        without_rules: names of the rules of `ConversationRules` that are not applied.
        min_words: of all answers of a conversation together.
        max_words: likewise.
        language: DataTrove's code of the language whose word tokenizer is used.
        keep_languages: codes of the languages to keep. (): all.
        language_threshold: the probability from which a text counts as one of a language.
        group_by: columns by whose values scores are counted too; see also `QualityFilter`.
        checkpoints: where scores are saved as they are computed. None: in the run's folder.
        progress: see `QualityFilter`.
    """

    scorer: ScorerConfig
    min_score: float | None = None
    max_score: float | None = None
    prefix: str = "quality"
    special_tokens: Any = "allow"
    allow_no_answer: bool = False
    render_tools: bool = False
    all_answers: bool = False
    mask_pii: bool = False
    without_rules: tuple[str, ...] = ()
    min_words: int = 1
    max_words: int = 100_000
    language: str = "eng"
    keep_languages: tuple[str, ...] = ()
    language_threshold: float = 0.65
    group_by: tuple[str, ...] = ()
    checkpoints: str | None = None
    progress: bool | None = None


def curation_stages(run: Run, adapter: Callable, wanted: Curation, cpu: Cluster, gpu: Cluster) -> list[Stage]:
    """The pipeline stages, in the order in which documents pass through.

    Args:
        run: the run.
        adapter: makes a document of a row.
        wanted: what is kept.
        cpu: what the stages without the model ask of a cluster.
        gpu: the resources of the stage with the model.
    """
    finders = min(run.tasks, MAX_FINDERS)
    exact, minhash = exact_config(), minhash_config()
    between, whole = run.between, run.whole
    exact_signature = ExactDedupSignature(between("exact_signatures"), exact)
    exact_signature.finder_workers = finders  # as an argument, it makes DataTrove warn of what is done below
    clean = [
        run.reader(adapter),
        *([PerMessage(MaskPII())] if wanted.mask_pii else []),
        ConversationRules(run.writer("excluded/rules"), wanted.without_rules, wanted.prefix, wanted.group_by),
        *answer_filters(run, wanted),
        run.save("cleaned"),
        whole(exact_signature),
    ]
    find_exact = [whole(ExactFindDedups(between("exact_signatures"), between("exact_duplicates"), exact))]
    exact_duplicates = run.writer(f"excluded/{EXACT_DUPLICATE}", reason=EXACT_DUPLICATE)
    drop_exact = [
        run.load("cleaned"),
        DropExactDuplicates(between("exact_duplicates"), exact, exact_duplicates),
        run.save("distinct"),
        without_system,
        whole(MinhashDedupSignature(between("near_signatures"), minhash, wanted.language)),
    ]
    find_near = [whole(MinhashDedupBuckets(between("near_signatures"), between("near_pairs"), config=minhash))]
    cluster_near = [whole(MinhashDedupCluster(between("near_pairs"), between("near_duplicates"), minhash))]
    near_duplicates = run.writer(f"excluded/{NEAR_DUPLICATE}", reason=NEAR_DUPLICATE)
    score = [
        run.load("distinct"),
        MinhashDedupFilter(between("near_duplicates"), near_duplicates),
        *scoring_steps(run, wanted),
        run.writer("kept"),
    ]
    return [
        Stage("clean", clean, cluster=cpu),
        Stage("find-exact", find_exact, finders, cluster=cpu),
        Stage("drop-exact", drop_exact, cluster=cpu),
        Stage("find-near", find_near, minhash.num_buckets, cluster=cpu),
        Stage("cluster-near", cluster_near, 1, cluster=cpu),
        Stage("score", score, cluster=gpu),
    ]


def answer_filters(run: Run, wanted: Curation) -> list[PipelineStep]:
    """DataTrove's filters of what the assistant says, the cheapest first."""
    language = wanted.language
    length = length_filter(language, wanted.min_words, wanted.max_words)
    filters: list[PipelineStep] = [
        AnswerFilter(length, run.writer("excluded/length")),
        AnswerFilter(symbol_filter(language), run.writer("excluded/symbols"), SHARES_FROM_CHARS),
        AnswerFilter(repetition_filter(language), run.writer("excluded/repetition"), SHARES_FROM_CHARS),
    ]
    if wanted.keep_languages:
        judge = LanguageFilter(list(wanted.keep_languages), wanted.language_threshold)
        excluded = run.writer("excluded/language")
        filters.append(AnswerFilter(judge, excluded, LANGUAGE_FROM_CHARS, reason="other_language"))
    return filters


def scoring_steps(run: Run, wanted: Curation) -> list[PipelineStep]:
    """Score all, count the scores of all, then filter by them."""
    return [
        QualityFilter(
            wanted.scorer,
            prefix=wanted.prefix,
            checkpoints_dir=wanted.checkpoints or run.checkpoints,
            special_tokens=wanted.special_tokens,
            allow_no_answer=wanted.allow_no_answer,
            render_tools=wanted.render_tools,
            all_answers=wanted.all_answers,
            group_by=wanted.group_by,
            progress=wanted.progress,
        ),
        run.whole(QualityStats(run.path("logs/statistics"), wanted.prefix, wanted.group_by)),
        QualityFilter(
            None,
            min_score=wanted.min_score,
            max_score=wanted.max_score,
            prefix=wanted.prefix,
            unscorable="drop",
            exclusion_writer=run.writer("excluded/score"),
            progress=False,
        ),
    ]
