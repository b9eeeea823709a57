"""Curate conversations in four stages: clean, find near duplicates (two stages), then score and filter what is left.

    python pipelines/curate_conversations.py data/ curated/

A short form of `datatrove-quality curate`, to copy and change; needs `pip install 'datatrove-quality[curate]'`. Each
row is written exactly once: to `curated/kept`, or to `curated/excluded/STEP` with its `filter_reason`.
"""

import argparse

from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig

from datatrove_quality import AnswerFilter, ConversationAdapter, ConversationRules, QualityFilter, Run, Stage


MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"
MIN_SCORE = 4


def main() -> None:
    """Clean, deduplicate, score, filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder, file, or glob in quotes")
    parser.add_argument("output", help="folder, outside of the input")
    parser.add_argument("--model", default=MODEL, help="hub id or folder")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE)
    parser.add_argument("--workers", type=int, help="tasks at a time (default: 1)")
    options = parser.parse_args()

    run = Run(options.input, options.output, workers=options.workers, name="curate")
    # By default all numbers are alike, so that "12 times 7" is "3 times 9"; and the hash fails with xxhash 4.
    minhash = MinhashConfig(norm_config=TextNormConfig(norm_numbers=False), hash_config=HashConfig(hash_fc="sha1"))
    signatures, pairs, duplicates = (run.between(name) for name in ("signatures", "pairs", "duplicates"))
    clean = [
        run.reader(ConversationAdapter()),
        ConversationRules(run.writer("excluded/rules")),
        # Judges the assistant's answers; shorter ones than 200 characters are kept unseen.
        AnswerFilter(GopherRepetitionFilter(), run.writer("excluded/repetition"), from_chars=200),
        run.save("cleaned"),
        run.whole(MinhashDedupSignature(signatures, minhash)),
    ]
    find = [run.whole(MinhashDedupBuckets(signatures, pairs, config=minhash))]
    cluster = [run.whole(MinhashDedupCluster(pairs, duplicates, minhash))]
    score = [
        run.load("cleaned"),
        MinhashDedupFilter(duplicates, run.writer("excluded/duplicates", reason="near_duplicate")),
        QualityFilter(
            options.model,
            min_score=options.min_score,
            exclusion_writer=run.writer("excluded/score"),
            checkpoints_dir=run.checkpoints,
        ),
        run.writer("kept"),
    ]
    pipeline = [
        Stage("clean", clean),
        Stage("find", find, tasks=minhash.num_buckets),
        Stage("cluster", cluster, tasks=1),
        Stage("score", score),
    ]
    run(*pipeline)


if __name__ == "__main__":  # worker processes import this file
    main()
