"""Raw rows to a corpus on SLURM: clean on CPU nodes, then score on GPU nodes, count, and keep the best.

    python pipelines/corpus_on_slurm.py /shared/raw/ /shared/corpus/ --cpu-partition short --gpu-partition a100

Start it on the login node. The jobs of the second stage start when those of the first have succeeded. The same command
queues what failed or was lost, and, when all is done, prints what became of the rows. `--executor local` runs the same
pipeline on this machine, to try it on a few files. Nodes need no network: the model is fetched before jobs are queued.
"""

import argparse

from datatrove.pipeline.filters import LambdaFilter

from datatrove_quality import (
    Cluster,
    ConversationAdapter,
    ConversationRules,
    QualityFilter,
    QualityStats,
    Run,
    ScorerConfig,
    Stage,
)


MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"
MIN_SCORE = 4
MAX_CHARS = 100_000


def main() -> None:
    """Clean; then score, count the scores by source, and filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder, file, or glob in quotes, on storage that all nodes see")
    parser.add_argument("output", help="folder on such storage, outside of the input")
    parser.add_argument("--model", default=MODEL, help="hub id or folder")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE)
    parser.add_argument("--tasks", type=int, help="parts that run and resume one by one (default: files)")
    parser.add_argument("--device", default="auto", help="cpu: score on CPU nodes")
    parser.add_argument("--executor", default="slurm", help="slurm (default) or local")
    parser.add_argument("--cpu-partition", help="default: the cluster's")
    parser.add_argument("--gpu-partition", help="default: the cluster's")
    options = parser.parse_args()

    on_slurm = options.executor == "slurm"
    cpu = Cluster(partition=options.cpu_partition, mem="4G", time="2:00:00") if on_slurm else None
    gpu = Cluster(partition=options.gpu_partition, gpus_per_task=1, time="8:00:00") if on_slurm else None
    run = Run(
        options.input, options.output, executor=options.executor, tasks=options.tasks, cluster=gpu, name="corpus"
    )
    clean = [
        run.reader(ConversationAdapter()),
        ConversationRules(run.writer("excluded/rules")),
        LambdaFilter(
            lambda document: len(document.text) <= MAX_CHARS, run.writer("excluded/length", reason="too_long")
        ),
        run.save("cleaned"),
    ]
    score = [
        run.load("cleaned"),
        QualityFilter(ScorerConfig(model=options.model, device=options.device), checkpoints_dir=run.checkpoints),
        run.whole(QualityStats(run.path("logs/statistics"), group_by=("source",))),
        QualityFilter(None, min_score=options.min_score, exclusion_writer=run.writer("excluded/score")),
        run.writer("kept"),
    ]
    pipeline = [Stage("clean", clean, cluster=cpu), Stage("score", score, cluster=gpu)]
    run(*pipeline)


if __name__ == "__main__":
    main()
