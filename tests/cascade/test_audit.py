"""The audit: its bound holds at any time of looking, tasks are pooled, sources are looked at one by one."""

import json
import math
import random
from collections import Counter

import numpy as np
import pytest

from datatrove_quality.cascade import audit as module
from datatrove_quality.cascade.audit import (
    MAX_SOURCES,
    Audit,
    BrokenPromise,
    added,
    findings,
    read_counts,
    share_changed,
)
from datatrove_quality.cascade.bounds import lower_bound_at_any_time
from datatrove_quality.cascade.values import Bound, Cascade, Certificate


def certified(*kinds, promised=0.01, strict=False):
    bounds = tuple(Bound(kind, promised, 0, 1_000, 0.003) for kind in kinds or ("disagreement",))
    return Cascade("org/student", (2, 3), Certificate(4.0, 0.95, bounds, 1_000), strict_audit=strict)


def counts(**values):
    return Counter(values)


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "rows"), [(1, 1), (3, 20), (40, 500), (500, 500)])
def test_the_bound_is_where_the_mixture_equals_its_level(errors, rows):
    """Integrated numerically here."""
    bound = lower_bound_at_any_time(errors, rows, 0.05)
    share = (np.arange(200_000) + 0.5) / 200_000
    ratio = errors * np.log(share / bound) + (rows - errors) * np.log((1 - share) / (1 - bound))
    mixture = np.mean(np.exp(ratio) / (math.pi * np.sqrt(share * (1 - share))))
    assert mixture == pytest.approx(20, rel=0.02)
    assert 0 < bound < errors / rows


def test_no_error_says_nothing():
    assert lower_bound_at_any_time(0, 10_000, 0.05) == 0


def test_looking_after_each_row_deceives_no_more_often_than_promised():
    """400 streams of 1,500 rows: the bound is above the true share at some time in at most 5% of them."""
    rng = np.random.default_rng(1)
    worst = {(k, n) for n in range(1, 1_501) for k in range(1, 40) if k / n > 0.02}
    refuted = {pair for pair in worst if _refutes(*pair, 0.02, 0.05)}
    alarms = 0
    for _ in range(400):
        reached = np.cumsum(rng.random(1_500) < 0.02)
        alarms += any((int(k), n) in refuted for n, k in enumerate(reached, start=1) if k < 40)
    assert 0 < alarms <= 30  # of 20 that may be expected at most, and the noise of 400


def _refutes(errors, rows, share, alpha):
    log_mixture = math.lgamma(errors + 0.5) + math.lgamma(rows - errors + 0.5) - math.lgamma(rows + 1)
    log_ratio = log_mixture - math.log(math.pi) - errors * math.log(share) - (rows - errors) * math.log1p(-share)
    return log_ratio >= -math.log(alpha)


# --- shares of all, of the kept and of the dropped -------------------------------------------------------------------


COUNTED = counts(
    proxy_dropped=3_000, proxy_kept=5_000, audited_dropped=300, audited_kept=500, wrongly_dropped=6, wrongly_kept=20,
    classifier_dropped=800, classifier_kept=1_200,
)  # fmt: skip


def test_rates_among_the_audited_are_turned_into_shares():
    assert share_changed("disagreement", COUNTED, 0.05)[0] == pytest.approx(26 / 800 * 0.8)
    assert share_changed("disagreement", COUNTED, 0.05)[1] == lower_bound_at_any_time(26, 800, 0.05) * 0.8
    wrong = 6 / 300 * 3_000
    assert share_changed("wrongly_dropped", COUNTED, 0.05)[0] == pytest.approx(wrong / (1_200 + 5_000 + wrong))
    wrong = 20 / 500 * 5_000
    assert share_changed("wrongly_kept", COUNTED, 0.05)[0] == pytest.approx(wrong / (800 + 3_000 + wrong))
    assert share_changed("wrongly_kept", counts(proxy_kept=9), 0.05) == (0, 0)


def test_chance_is_divided_among_promises_and_sources():
    """Half for all documents; each of s sources gets 1 / ((s + 1) (s + 2)) of it."""
    certificate = certified("wrongly_dropped", "wrongly_kept").certificate
    found = list(findings({"a": COUNTED, "b": COUNTED}, certificate))
    assert [(one.source, one.kind) for one in found] == [
        (source, kind) for source in (None, "a", "b") for kind in ("wrongly_dropped", "wrongly_kept")
    ]
    whole = share_changed("wrongly_kept", COUNTED + COUNTED, 0.05 / 4)
    assert (found[1].estimate, found[1].lower) == pytest.approx(whole)
    assert found[3].lower == pytest.approx(share_changed("wrongly_kept", COUNTED, 0.05 / 2 / 12)[1])
    assert len(list(findings({"a": COUNTED}, certificate))) == 2


def test_an_estimate_above_the_promise_is_no_alarm(log):
    """Six of 500 are 1.2%, which a true share of 0.8% gives one time in five."""
    audit = Audit(certified(promised=0.01), 0, None)
    for place in range(500):
        audit.add("s", True, True, place % 80 != 7)
    audit.look(at_the_end=True)
    assert not [line for line in log if "broken" in line]


# --- while it runs ---------------------------------------------------------------------------------------------------


def test_a_source_on_which_the_proxy_is_wrong_is_named(log):
    audit = Audit(certified(), 0, None)
    for place in range(4_000):
        audit.add("good" if place % 4 else "bad", place % 2 == 0, True, (place % 2 == 0) ^ (place % 16 == 0))
    broken = [line for line in log if "promise is broken" in line]
    assert [("in source 'bad'" in line, "in source" in line) for line in broken] in ([(True, True), (False, False)], [
        (False, False), (True, True)
    ])  # fmt: skip


def test_a_strict_audit_ends_the_task():
    audit = Audit(certified(strict=True), 0, None)
    with pytest.raises(BrokenPromise, match=r"disagreement: 100\.00% by the audit"):
        for _ in range(100):
            audit.add(None, False, True, True)


def test_without_a_certificate_there_is_no_promise(log):
    audit = Audit(Cascade("org/student", (2, 3)), 0, None)
    for _ in range(300):
        audit.add("s", False, True, True)
    assert log == []


def test_tasks_are_pooled(tmp_path, log):
    """No task alone has seen enough; the last one to look has all of them."""
    folder = str(tmp_path / "audit")
    for rank in range(8):
        audit = Audit(certified(), rank, folder)
        for place in range(12):
            audit.add("s", True, True, place > 0)
        audit.add("s", None, False, True)
        audit.look(at_the_end=True)
    assert len([line for line in log if "promise is broken" in line]) > 0
    pooled = read_counts(folder)
    assert pooled == {
        "s": Counter(proxy_kept=96, audited_kept=96, wrongly_kept=8, classifier_kept=8),
    }
    assert added([pooled, pooled])["s"]["proxy_kept"] == 192
    assert read_counts(folder, but=3)["s"]["proxy_kept"] == 84


class Published:
    """The folder in memory, and a clock."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.files = {}
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "write_json", self.write)
        monkeypatch.setattr(module, "read_counts", self.read)

    def write(self, path, value, indent):
        self.files[int(path[-10:-5])] = {source: Counter(counts) for source, counts in value.items()}

    def read(self, folder, but):
        return added(counts for rank, counts in self.files.items() if rank != but)


def stops(published, share, random_source, folder, tasks=64, steps=60):
    """Whether some task stops the run, in which each task audits one document in 10 seconds."""
    published.now, published.files = 0.0, {}
    audits = [Audit(certified(promised=0.01, strict=True), rank, folder) for rank in range(tasks)]
    try:
        for _ in range(steps):
            for audit in audits:
                published.now += 10 / tasks
                audit.add("s", False, True, random_source.random() < share)
        for audit in audits:
            audit.look(at_the_end=True)
    except BrokenPromise:
        return True
    return False


def test_many_tasks_give_no_more_false_alarms_than_one(tmp_path, monkeypatch):
    """At half the promised share no run of six stops, of 5% that are allowed at the promised one; at twice, all do."""
    published, folder = Published(monkeypatch), str(tmp_path)
    random_source = random.Random(1)
    assert not any(stops(published, 0.005, random_source, folder) for _ in range(6))
    assert all(stops(published, 0.02, random_source, folder) for _ in range(3))


def test_counts_are_published_when_it_is_time_errors_or_none(tmp_path, monkeypatch, log):
    """Errors alone neither publish nor look."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    audit = Audit(certified(), 0, str(tmp_path))
    audit.look()
    for _ in range(50):
        audit.add("s", True, True, False)
    assert read_counts(str(tmp_path)) == {} and log == []
    now[0] = 31.0
    audit.add("s", None, False, True)
    assert read_counts(str(tmp_path)) == {
        "s": Counter(proxy_kept=50, audited_kept=50, wrongly_kept=50, classifier_kept=1)
    }
    assert len([line for line in log if "promise is broken" in line]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["00000.json"]


def test_a_task_that_starts_again_counts_itself_once(tmp_path):
    folder = str(tmp_path)
    (tmp_path / "00002.json").write_text(json.dumps({"s": {"proxy_kept": 70}}))
    (tmp_path / "00001.json").write_text('{"s": {"pro')  # damaged
    audit = Audit(certified(), 2, folder)
    audit.add("s", True, False, None)
    audit.look(at_the_end=True)
    assert read_counts(folder) == {"s": Counter(proxy_kept=1)}


def test_without_its_folder_a_run_goes_on_and_says_that_nothing_is_checked(tmp_path, log):
    (tmp_path / "file").write_text("")
    audit = Audit(certified(), 0, str(tmp_path / "file"))
    audit.look(at_the_end=True)
    assert any("cannot be exchanged" in line and "not checked this time" in line for line in log)


def test_of_very_many_sources_the_later_ones_are_one():
    audit = Audit(certified(), 0, None)
    for place in range(MAX_SOURCES + 50):
        audit.add(place, True, False, None)
    assert len(audit._counts) == MAX_SOURCES + 1


# --- the draw --------------------------------------------------------------------------------------------------------
