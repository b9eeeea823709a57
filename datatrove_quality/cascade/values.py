"""What a cascade is: a proxy, a band of its scores, and the certificate that was issued for them."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from loguru import logger

from datatrove_quality.atomic_write import write_json
from datatrove_quality.config import ScorerConfig, ScoreScale
from datatrove_quality.model.digests import json_digest


Kind = Literal["disagreement", "wrongly_dropped", "wrongly_kept"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Of the documents that the proxy decides, the share that the classifier scores too.
AUDIT = 0.005
FORMAT = 2
# What of `Scorer.describe()` makes a score: the logit, and how it is read.
SCORED_BY = ("fingerprint", "scale", "outputs")
# Arguments of `QualityFilter` that decide what of a row is scored, or which rows are.
READING = ("messages_key", "render_tools", "allow_no_answer", "special_tokens")


@dataclass(frozen=True)
class Bound:
    """How many decisions a cascade changes, as a share, and what was promised of it.

    Args:
        kind: "disagreement": of all documents; "wrongly_dropped": of those that the classifier keeps; "wrongly_kept":
            of those that it drops.
        promised: the share that the promise allows.
        errors: changed decisions among the certifying rows.
        rows: the certifying rows of which they are a share.
        upper: the exact upper confidence bound on the share.
    """

    kind: Kind
    promised: float
    errors: int
    rows: int
    upper: float


@dataclass(frozen=True)
class Certificate:
    """What was shown of a cascade, and for what: it holds for nothing else.

    Args:
        min_score: the threshold.
        confidence: of all bounds together. At most 1 - confidence of calibrations end in a broken promise.
        bounds: one for each share that the promise bounds.
        rows: certifying rows, a simple random sample of the corpus.
        seed: of the halves of the sample.
        attempts: calibrations on this corpus up to this one. Each further one had half the chance of being wrong.
        prefix: of the score columns. None: not tied to one.
        classifier: `scored_by` of the classifier. None: not tied to one.
        proxy: likewise, of the proxy.
        reading: the arguments of `QualityFilter` in `READING`. None: not tied to any.
        columns: which columns of a row were read: what the adapter was told that is not its default, `settings`. None:
            not tied to any.
        band: for which it was issued. None: that of the first `Cascade` that has this certificate.
    """

    min_score: float
    confidence: float
    bounds: tuple[Bound, ...]
    rows: int
    seed: int = 0
    attempts: int = 1
    prefix: str | None = None
    classifier: dict[str, Any] | None = None
    proxy: dict[str, Any] | None = None
    reading: dict[str, Any] | None = None
    columns: dict[str, Any] | None = None
    band: tuple[float, float] | None = None

    def describe(self) -> str:
        """The bounds in one line, for a person."""
        shown = (f"{bound.kind.replace('_', ' ')} at most {bound.promised:.3%}" for bound in self.bounds)
        return f"{', '.join(shown)} (confidence {self.confidence:.1%}, {self.rows:,} certifying rows)"


def require_audit(audit: object) -> None:
    """Refuse what is no share of documents.

    Raises:
        ValueError: it is none.
    """
    if isinstance(audit, bool) or not isinstance(audit, int | float) or not 0 <= audit <= 1:
        raise ValueError(f"audit={audit!r}: give a share from 0 to 1.")


@dataclass(frozen=True)
class Cascade:
    """A proxy decides the documents whose proxy score lies outside a band; the classifier scores the others.

    Args:
        proxy: the cheaper classifier, or its hub id or folder. None: not known yet, see `calibrate_cascade`.
        band: two proxy scores, `(low, high)`. Documents below `low` are dropped, documents above `high` are kept;
            those from `low` to `high` are scored by the classifier. May be infinite.
        certificate: issued by `calibrate_cascade`. None: the band is set by hand, and promises nothing.
        audit: of the documents that the proxy decides, the share that the classifier scores too, chosen at random;
            these are then decided by the classifier.
        strict_audit: whether a run stops when the audit shows that the certificate's promise is broken; else it warns.
        audit_by: the metadata key of the sources that the audit looks at one by one.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    proxy: ScorerConfig | None
    band: tuple[float, float]
    certificate: Certificate | None = None
    audit: float = AUDIT
    strict_audit: bool = False
    audit_by: str = "source"

    def __post_init__(self) -> None:
        if isinstance(self.proxy, str | os.PathLike):
            object.__setattr__(self, "proxy", ScorerConfig(model=os.fspath(self.proxy)))
        if self.proxy is not None and not isinstance(self.proxy, ScorerConfig):
            raise ValueError(f"proxy={self.proxy!r}: give a ScorerConfig(model=...), or a model's hub id or folder.")
        band = self.band
        if not isinstance(band, tuple | list) or len(band) != 2 or not all(map(_is_number, band)):
            raise ValueError(f"band={band!r}: give two proxy scores, (low, high).")
        if band[0] > band[1]:
            raise ValueError(f"band={band!r}: low is above high; swap them.")
        object.__setattr__(self, "band", (float(band[0]), float(band[1])))
        if self.certificate is not None and not isinstance(self.certificate, Certificate):
            raise ValueError(f"certificate={self.certificate!r:.80}: give one that calibrate_cascade issued, or None.")
        if self.certificate is not None and self.certificate.band is None:
            object.__setattr__(self, "certificate", replace(self.certificate, band=self.band))
        elif self.certificate is not None and self.certificate.band != self.band:
            raise ValueError(
                f"band={self.band}: the certificate is for band={self.certificate.band}. Give that one, calibrate "
                "again, or set certificate=None: a band of your own promises nothing."
            )
        require_audit(self.audit)
        if not isinstance(self.strict_audit, bool):
            raise ValueError(f"strict_audit={self.strict_audit!r}: give True or False.")
        if self.strict_audit and (self.certificate is None or not self.audit):
            raise ValueError("strict_audit=True needs a certificate, whose promise is audited, and audit above 0.")
        if not isinstance(self.audit_by, str) or not self.audit_by:
            raise ValueError(f"audit_by={self.audit_by!r}: give a metadata key.")

    def decides(self, proxy_score: float) -> bool | None:
        """What the proxy's score decides: True is keep, False is drop, None is for the classifier to decide."""
        low, high = self.band
        return False if proxy_score < low else True if proxy_score > high else None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `QualityFilter(cascade=...)` reads; a local proxy by its whole path.

        Raises:
            ValueError: the proxy is not set.
        """
        if self.proxy is None:
            raise ValueError("proxy=None: set the proxy with dataclasses.replace(cascade, proxy=ScorerConfig(...)).")
        content = self._content(self.proxy)
        write_json(os.fspath(path), content | {"digest": json_digest(content)})

    def _content(self, proxy: ScorerConfig) -> dict[str, Any]:
        defaults = ScorerConfig(model=proxy.model)
        values = {field.name: getattr(proxy, field.name) for field in fields(proxy)}
        model = os.path.abspath(proxy.model) if os.path.isdir(proxy.model) else proxy.model
        set_by_user = {name: value for name, value in values.items() if value != getattr(defaults, name)}
        if proxy.scale is not None:
            set_by_user["scale"] = asdict(proxy.scale)
        return {
            "format": FORMAT,
            "proxy": {"model": model, **set_by_user},
            "band": _edges(self.band),
            "certificate": self.certificate and asdict(self.certificate) | {"band": _edges(self.band)},
            "audit": self.audit,
            "audit_by": self.audit_by,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file that `datatrove-quality calibrate` or `save` has written.

        Raises:
            ValueError: it is no such file, or was edited.
        """
        try:
            content = json.loads(Path(path).read_bytes())
            digest = content.pop("digest")
        except OSError as error:
            raise ValueError(f"cascade={os.fspath(path)!r}: it cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"cascade={os.fspath(path)!r} is no file of datatrove-quality calibrate.") from error
        if digest != json_digest(content) or content.get("format") != FORMAT:
            raise ValueError(
                f"cascade={os.fspath(path)!r} was edited, or written by another version: its certificate does not "
                "hold. Calibrate again; a band of your own is Cascade(proxy=ScorerConfig(...), band=(low, high))."
            )
        proxy = dict(content["proxy"])
        if "scale" in proxy:
            proxy["scale"] = ScoreScale(**proxy["scale"])
        return cls(
            proxy=ScorerConfig(**proxy),
            band=_band(content["band"]),
            certificate=_certificate(content["certificate"]),
            audit=content["audit"],
            audit_by=content["audit_by"],
        )

    def require_threshold(self, min_score: float | None, max_score: float | None, prefix: str) -> None:
        """Refuse a step for whose threshold or columns the cascade was not made.

        Raises:
            ValueError: it is one; says what to do.
        """
        if self.proxy is None:
            raise ValueError("cascade: its proxy is not set; give Cascade(proxy=ScorerConfig(...), band=...).")
        if min_score is None or max_score is not None:
            raise ValueError(
                f"cascade needs min_score= and no max_score= (min_score={min_score}, max_score={max_score}): it "
                "computes decisions at one threshold, not a score of each document."
            )
        certificate = self.certificate
        if certificate is None:
            return
        if certificate.min_score != min_score:
            raise ValueError(
                f"min_score={min_score}: the cascade's certificate is for min_score={certificate.min_score}. "
                "Calibrate for this threshold; the classifier's scores that are in the score store are reused."
            )
        if certificate.prefix not in (None, prefix):
            raise ValueError(
                f"prefix={prefix!r}: the cascade's certificate is for prefix={certificate.prefix!r}. Give that one, "
                "or calibrate again."
            )

    def require_reading(self, settings: Mapping[str, Any]) -> None:
        """Refuse a step that scores other texts or other rows than those by which the certificate was issued.

        Args:
            settings: of the step, among them those in `READING`.

        Raises:
            ValueError: it does; names the setting, its value and the fix.
        """
        issued = None if self.certificate is None else self.certificate.reading
        for name, value in (issued or {}).items():
            if settings[name] != value:
                raise ValueError(
                    f"{name}={settings[name]!r}, and the cascade's certificate was issued with {name}={value!r}. "
                    "Score rows as they were scored then, or calibrate again."
                )

    def require_columns(self, settings: Mapping[str, Any]) -> None:
        """Refuse a run that reads other columns than those of the certificate's sample.

        Args:
            settings: of the adapter of the run's reader.

        Raises:
            ValueError: it does; names both.
        """
        issued, found = None if self.certificate is None else self.certificate.columns, _columns(settings)
        if issued not in (None, found):
            raise ValueError(
                f"cascade: its certificate was issued for rows read by {_shown(issued)}, and these are read by "
                f"{_shown(found)}. Read rows as then, or calibrate again."
            )

    def require_models(self, classifier: Mapping[str, Any], proxy: Mapping[str, Any]) -> None:
        """Refuse other models than those for which the certificate was issued, and other ways to read their outputs.

        Args:
            classifier: `Scorer.describe()` of the classifier that runs.
            proxy: that of the proxy.

        Raises:
            ValueError: one of them is another one, or makes other scores of the same logits; says what differs.
        """
        certificate = self.certificate
        if certificate is None:
            return
        for name, described in (("classifier", classifier), ("proxy", proxy)):
            issued, found = getattr(certificate, name), scored_by(described)
            if issued in (None, found):
                continue
            differences = (
                f"{part} {issued.get(part)}, and this one has {value}"
                for part, value in found.items()
                if issued.get(part) != value
            )
            raise ValueError(
                f"cascade: its certificate was issued for the {name} with {'; '.join(differences)}. (A fingerprint is "
                "that of weights, tokenizer, chat template, dtype and max_tokens.) Give the model, its scale and "
                "outputs as they were, or calibrate again."
            )

    def with_certificate(self, **values: Any) -> Self:
        """The cascade with other values in its certificate, such as `scored_by` of the models."""
        if self.certificate is None:
            return self
        if values.get("columns") is not None:
            values["columns"] = _columns(values["columns"])
        return replace(self, certificate=replace(self.certificate, **values))


def scored_by(described: Mapping[str, Any]) -> dict[str, Any]:
    """What a certificate says of a model: all that makes its scores.

    Args:
        described: `Scorer.describe()`.

    Returns:
        JSON values by the names of `SCORED_BY`.
    """
    return {name: described.get(name) for name in SCORED_BY}


def require_usable(cascade: object, scorer: ScorerConfig | None, settings: Mapping[str, Any]) -> None:
    """Refuse a cascade that a quality filter with these arguments cannot use.

    Args:
        cascade: the value of the argument.
        scorer: the filter's. None: not known yet.
        settings: the filter's other arguments by name, among them the bounds, the prefix and those in `READING`.

    Raises:
        ValueError: it holds no cascade, or one for another threshold, prefix or reading, or its proxy is the scorer.
    """
    if not isinstance(cascade, Cascade):
        raise ValueError(f"cascade={cascade!r:.80}: give a Cascade, the path of its file, or None.")
    cascade.require_threshold(settings["min_score"], settings["max_score"], settings["prefix"])
    cascade.require_reading(settings)
    if cascade.proxy == scorer:
        raise ValueError("cascade: its proxy is the scorer itself; give a cheaper one, or omit cascade.")
    certificate = cascade.certificate
    if scorer is not None and certificate is not None and None in (certificate.classifier, certificate.proxy):
        logger.warning(
            "cascade: its certificate names no models (calibrate_cascade sees scores only): whether it was issued for "
            "this classifier and this proxy cannot be checked."
        )


def _columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter's settings as its arguments, in JSON values."""
    text_key = {"text_key": settings["into"]} if "into" in settings else {}
    arguments = settings.get("where", text_key)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _shown(columns: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in (columns or {}).items()) or "the default columns"


def _certificate(values: dict[str, Any] | None) -> Certificate | None:
    if values is None:
        return None
    bounds = tuple(Bound(**bound) for bound in values["bounds"])
    return Certificate(**values | {"bounds": bounds, "band": _band(values["band"])})


def _edges(band: tuple[float, float]) -> list[float | str]:
    """A band in JSON, which has no infinite numbers."""
    return [edge if math.isfinite(edge) else str(edge) for edge in band]


def _band(edges: list[float | str]) -> tuple[float, float]:
    low, high = map(float, edges)
    return low, high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
