"""The ways to score conversations that are compared, each loaded once and given the same documents again and again."""

import importlib.util
import io
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpora
import hardware
from corpora import Conversation


if TYPE_CHECKING:
    from datatrove_quality import ScorerConfig


ANNOTATOR_ROWS = 32
# Of those that take batches of so many rows: among the few documents of the CPU, 32 would leave nothing to sort.
ROWS = {"cpu": 8, "cuda": 32}
# What the padded and sorted loop puts through the model at once, padding included.
PADDED_TOKENS = {"cpu": 4_096, "cuda": 16_384}
OFFSET = 1.0  # of the card's scores


@dataclass(frozen=True)
class Setup:
    """What all contenders are given alike.

    Args:
        model: the classifier's folder.
        device: "cpu" or "cuda".
        dtype: such as "bfloat16".
        attention: an implementation of transformers' ("eager", "sdpa"), for those that use its attention; or a
            kernel of model/attention.py, for ours. None: each one's own choice.
    """

    model: str
    device: str
    dtype: str
    attention: str | None = None

    @property
    def own_attention(self) -> str | None:
        """The attention of transformers that is chosen."""
        return self.attention if self.attention in ("eager", "sdpa") else None


@dataclass(frozen=True)
class Documents:
    """The same documents in a file and in memory."""

    path: Path
    conversations: list[Conversation]


class _Transformers:
    """Tokenizer and model as the model card's example loads them."""

    attention: str | None = None

    def __init__(self, setup: Setup):
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.torch = torch
        self.device = setup.device
        self.tokenizer = AutoTokenizer.from_pretrained(setup.model)
        attention = self.attention or setup.own_attention
        chosen = {} if attention is None else {"attn_implementation": attention}
        self.model = AutoModelForSequenceClassification.from_pretrained(setup.model, dtype=setup.dtype, **chosen)
        self.model.to(setup.device)

    def render(self, conversations: Iterable[Conversation]) -> list[str]:
        return [str(self.tokenizer.apply_chat_template(messages, tokenize=False)) for messages in conversations]

    def forward(self, inputs: Any) -> list[float]:
        with self.torch.no_grad():
            logits = self.model(**inputs.to(self.device)).logits
        return [logit + OFFSET for logit in logits.squeeze(-1).float().cpu().tolist()]


class CardLoop(_Transformers):
    """The model card's example: one conversation at a time."""

    def __call__(self, given: Documents) -> list[float]:
        scores = []
        for messages in given.conversations:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
            scores += self.forward(self.tokenizer(text, return_tensors="pt", padding="longest", truncation=True))
        return scores


class Annotator(_Transformers):
    """The algorithm of the authors' annotator: rows in input order, padded to the longest, eager attention."""

    attention = "eager"

    def __call__(self, given: Documents) -> list[float]:
        texts = self.render(given.conversations)
        starts = range(0, len(texts), ANNOTATOR_ROWS)
        return [score for start in starts for score in self.scores(texts[start : start + ANNOTATOR_ROWS])]

    def scores(self, rows: list[str]) -> list[float]:
        """A batch's scores; one that the GPU's memory does not admit is halved, as a user of the script must do."""
        try:
            return self.forward(self.tokenizer(rows, padding=True, truncation=True, return_tensors="pt"))
        except self.torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        half = len(rows) // 2
        return self.scores(rows[:half]) + self.scores(rows[half:])


class SortedLoop(_Transformers):
    """What a careful user writes: all documents sorted by length, batches of so many tokens, padding included."""

    def __call__(self, given: Documents) -> list[float]:
        encoded = self.tokenizer(self.render(given.conversations), truncation=True)["input_ids"]
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]), reverse=True)
        scores = [0.0] * len(encoded)
        while order:
            rows = max(1, PADDED_TOKENS[self.device] // len(encoded[order[0]]))
            batch, order = order[:rows], order[rows:]
            inputs = self.tokenizer.pad({"input_ids": [encoded[index] for index in batch]}, return_tensors="pt")
            for index, score in zip(batch, self.forward(inputs), strict=True):
                scores[index] = score
        return scores


class TransformersPipeline(_Transformers):
    """transformers' own pipeline("text-classification"), batched, on the rendered texts."""

    def __init__(self, setup: Setup):
        from transformers import pipeline

        super().__init__(setup)
        self.pipeline = pipeline(
            "text-classification",
            model=self.model,
            tokenizer=self.tokenizer,
            device=setup.device,
            batch_size=ROWS[setup.device],
        )

    def __call__(self, given: Documents) -> list[float]:
        results = self.pipeline(self.render(given.conversations), function_to_apply="none", truncation=True)
        return [result["score"] + OFFSET for result in results]


class SentenceTransformers:
    """sentence-transformers' CrossEncoder, which renders conversations and sorts by length itself."""

    def __init__(self, setup: Setup):
        import torch
        from sentence_transformers import CrossEncoder

        self.rows = ROWS[setup.device]
        chosen = {} if setup.own_attention is None else {"attn_implementation": setup.own_attention}
        self.model = CrossEncoder(
            setup.model,
            device=setup.device,
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": getattr(torch, setup.dtype)} | chosen,
        )

    def __call__(self, given: Documents) -> list[float]:
        scores = self.model.predict(given.conversations, batch_size=self.rows, show_progress_bar=False)
        return [float(score) + OFFSET for score in scores]


class Vllm:
    """vLLM's offline classification, on the same token ids.

    Args:
        setup: what all are given.
        caches_prefixes: whether what texts of one call begin with alike is computed once; never that of two calls,
            since the same documents come again.
    """

    def __init__(self, setup: Setup, caches_prefixes: bool = False):
        from transformers import AutoTokenizer
        from vllm import LLM, PoolingParams

        self.tokenizer = AutoTokenizer.from_pretrained(setup.model)
        self.llm = LLM(
            model=setup.model,
            runner="pooling",
            convert="classify",
            dtype=setup.dtype,
            max_model_len=self.tokenizer.model_max_length,
            enable_prefix_caching=caches_prefixes,
        )
        self.caches_prefixes = caches_prefixes
        self.parameters = PoolingParams(use_activation=False)

    def __call__(self, given: Documents) -> list[float]:
        template = self.tokenizer.apply_chat_template
        texts = [template(messages, tokenize=False) for messages in given.conversations]
        prompts = [{"prompt_token_ids": ids} for ids in self.tokenizer(texts, truncation=True)["input_ids"]]
        if self.caches_prefixes:
            self.llm.reset_prefix_cache()
        outputs = self.llm.classify(prompts, pooling_params=self.parameters, use_tqdm=False)
        return [output.outputs.probs[0] + OFFSET for output in outputs]


def scorer_config(setup: Setup) -> "ScorerConfig":
    """Our scorer with its defaults."""
    from datatrove_quality import ScorerConfig, ScoreScale

    return ScorerConfig(
        model=setup.model, device=setup.device, dtype=setup.dtype, scale=ScoreScale(offset=OFFSET, low=1, high=5)
    )


def force_kernel(name: str | None) -> None:
    """Let our packed attention run on one kernel of ours, in this process; "eager" and "sdpa" are not ours."""
    from datatrove_quality.model import attention

    if name in KERNELS:
        kernel = getattr(attention, name)
        attention.kernel_for = lambda *states: kernel


class OurScorer:
    """`Scorer.score` on conversations in memory."""

    compile = False

    def __init__(self, setup: Setup):
        from datatrove_quality import load_scorer

        force_kernel(setup.attention)
        self.scorer = load_scorer(replace(scorer_config(setup), compile=self.compile))

    def __call__(self, given: Documents) -> list[float]:
        return [score.score for score in self.scorer.score(given.conversations)]


class OurCompiledScorer(OurScorer):
    """The same with `compile=True`; compiling belongs to loading."""

    compile = True


class OurPipeline:
    """A DataTrove pipeline on a local executor: JSONL in, `QualityFilter`, JSONL out."""

    def __init__(self, setup: Setup):
        import multiprocess
        from multiprocess.forkserver import ensure_running

        from datatrove_quality import load_scorer

        force_kernel(setup.attention)
        self.config = scorer_config(setup)
        load_scorer(self.config)  # in this process, where the executor's only worker is
        # DataTrove starts a process for its queue. Forked from here, where the model is already, it would cost a copy
        # of each page that is written next; in a process of a user's the model comes later.
        multiprocess.set_start_method("forkserver", force=True)  # type: ignore[attr-defined]
        ensure_running()

    def __call__(self, given: Documents) -> Iterator[float]:
        folder = Path(tempfile.mkdtemp())
        run_pipeline(self.config, given.path, folder)
        return self._written(folder)  # read after the clock has stopped

    def _written(self, folder: Path) -> Iterator[float]:
        import orjson

        with (folder / "scored" / "00000.jsonl").open("rb") as file:
            yield from (orjson.loads(line)["quality_score"] for line in file)
        shutil.rmtree(folder)


def run_pipeline(config: "ScorerConfig", source: Path, output: Path, *last_steps: Callable, tasks: int = 1) -> None:
    """Score JSONL files to `output/scored`, in tasks of one worker, which is this process.

    Args:
        config: of the scorer.
        source: a file, or a pattern that names one for each task.
        output: a folder for the scored files and the log.
        *last_steps: behind the writer.
        tasks: done one after another.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.writers import JsonlWriter

    from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter, RowAdapter

    pipeline: list[PipelineStep | Callable] = [
        ConversationJsonlReader(str(source.parent), glob_pattern=source.name, adapter=ConversationAdapter()),
        QualityFilter(config, progress=False),
        JsonlWriter(str(output / "scored"), output_filename="${rank}.jsonl", compression=None, adapter=RowAdapter()),
        *last_steps,
    ]
    with redirect_stderr(io.StringIO()):  # the log stays in the run's folder
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(output / "logs")).run()


Contender = Callable[[Documents], Iterable[float]]

CARD, ANNOTATOR, OURS, OURS_COMPILED, OURS_WHOLE = "card", "annotator", "ours", "ours-compiled", "ours-pipeline"
CONTENDERS: dict[str, Callable[[Setup], Contender]] = {
    CARD: CardLoop,
    ANNOTATOR: Annotator,
    "sorted": SortedLoop,
    "pipeline": TransformersPipeline,
    "crossencoder": SentenceTransformers,
    "vllm": Vllm,
    OURS: OurScorer,
    OURS_COMPILED: OurCompiledScorer,
    OURS_WHOLE: OurPipeline,
}
LABELS = {
    CARD: "card's loop, one at a time",
    ANNOTATOR: "authors' annotator, N=32",
    "sorted": "padded, sorted by length",
    "pipeline": "transformers pipeline",
    "crossencoder": "CrossEncoder",
    "vllm": "vLLM classify",
    OURS: "ours, the scorer",
    OURS_COMPILED: "ours, compiled",
    OURS_WHOLE: "ours, JSONL to JSONL",
}
NEEDS = {"crossencoder": "sentence_transformers", "vllm": "vllm"}
KERNELS = ("per_sequence_attention", "torch_varlen_attention", "torch_flash_attention", "flash_attn_attention")


def takes_part(name: str, device: str) -> bool:
    """Whether a contender is measured by default: what it needs is there, and on this device it may be of use."""
    if name == OURS_COMPILED:
        return device != "cpu"  # there it does not pay: EXPERIMENTS.md
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


@dataclass(frozen=True)
class Turn:
    """One run over all documents.

    Args:
        seconds: from conversations (or their file) to scores (or their file).
        scores: in the documents' order.
        peak_memory: bytes, see `hardware.peak_memory`.
        gpu_busy: share of the time, from 0 to 1; None: not sampled.
    """

    seconds: float
    scores: list[float]
    peak_memory: int
    gpu_busy: float | None = None


class Loaded:
    """A contender with its model, in this process."""

    def __init__(self, name: str, setup: Setup, path: Path, warmup: int):
        self.setup = setup
        self.contender = CONTENDERS[name](setup)
        self.documents = Documents(path, corpora.read(path))
        first = self.documents.conversations[:warmup]
        with tempfile.TemporaryDirectory() as folder:
            few = replace(self.documents, path=corpora.write(Path(folder, "warmup.jsonl"), iter(first)))
            list(self.contender(replace(few, conversations=first)))

    def turn(self) -> Turn:
        """Score all documents and measure it."""
        device = self.setup.device
        hardware.reset_peak_memory(device)
        with hardware.gpu_samples(device) as samples:
            hardware.synchronize(device)
            started = time.perf_counter()
            scores = self.contender(self.documents)
            hardware.synchronize(device)
            seconds = time.perf_counter() - started
        busy = sum(samples) / len(samples) if samples else None
        peak = hardware.peak_memory(device)
        turn = Turn(seconds, list(scores), peak, busy)
        hardware.reset_peak_memory(device)  # leaves the memory to the next
        return turn

    def close(self) -> None:
        """Nothing: the model goes with this object."""


def serve(connection: Connection, load: Callable[..., Any], *arguments: Any) -> None:
    """A worker's process: load, then call `turn` for each message until the connection closes.

    Sends None when it has loaded, what each turn gives, or the text of what went wrong, which ends it.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    silence()
    try:
        loaded = load(*arguments)
        connection.send(None)
        while connection.recv():
            connection.send(loaded.turn())
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # the reader has ended
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error!s:.300}\n{traceback.format_exc(limit=-3)}")


def silence() -> None:
    """No log lines among the results: neither ours, nor DataTrove's, nor transformers'."""
    import transformers
    from loguru import logger

    with suppress(ImportError):  # scoring without a pipeline does not need it
        import datatrove.utils.logging  # noqa: F401  adds a sink

    logger.remove()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
