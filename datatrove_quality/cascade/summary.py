"""What is said of a cascade at the end of a run."""

from collections import Counter

from datatrove_quality.cascade.audit import findings, read_counts, share_changed
from datatrove_quality.cascade.values import Cascade


def about_cascade(cascade: Cascade, audit_folder: str | None) -> dict[str, str]:
    """The proxy, the promise, and what the audit of all tasks says of it; lines by name.

    Args:
        cascade: of a filter that has run.
        audit_folder: see `Audit`.
    """
    low, high = cascade.band
    model = "" if cascade.proxy is None else cascade.proxy.model
    # Its dtype may be all that tells it from the classifier.
    if cascade.proxy is not None and cascade.proxy.dtype != "auto":
        model += f" in {cascade.proxy.dtype}"
    about = {"proxy": f"{model}: below {low:g} dropped, above {high:g} kept, the others scored"}
    certificate = cascade.certificate
    about["promise"] = "none: the band was set by hand" if certificate is None else certificate.describe()
    counts = {} if audit_folder is None else read_counts(audit_folder)
    if not counts:
        return about
    total = sum(counts.values(), Counter())
    audited = total["audited_dropped"] + total["audited_kept"]
    if certificate is None:
        estimate, lower = share_changed("disagreement", total, 0.05)
        about["audit"] = f"{audited:,} documents: disagreement {estimate:.2%}, at least {lower:.2%}"
        return about
    found = list(findings(counts, certificate))
    whole = [str(finding) for finding in found if finding.source is None]
    about["audit"] = f"{audited:,} documents: {'; '.join(whole)}"
    if broken := [str(finding) for finding in found if finding.is_broken]:
        about["BROKEN"] = f"{'; '.join(broken)}. Calibrate on a sample of this corpus."
    return about
