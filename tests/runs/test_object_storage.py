"""Input, output and checkpoints on an object store: a loopback S3."""

import json
import os

import pytest


pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from moto.server import ThreadedMotoServer

from datatrove_quality import ConversationAdapter, QualityFilter, Run
from datatrove_quality.runs import run_record
from datatrove_quality.runs.claim import LostOutput


ROWS = 30


def turns(row):
    return [{"role": "user", "content": f"Oi, {row}?"}, {"role": "assistant", "content": "Olá!"}]


@pytest.fixture(scope="module")
def server():
    """An S3 of this process, which answers on this machine only."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """A bucket with two files of rows, as fsspec sees it, and its address."""
    import fsspec

    settings = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_ENDPOINT_URL": server, "NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"bucket-{os.path.basename(tmp_path)}".replace("_", "-").lower()[:60].rstrip("-")
    fs.mkdir(name)
    for file in range(2):
        rows = [{"id": f"{file}-{row}", "messages": turns(row)} for row in range(ROWS)]
        fs.pipe_file(f"{name}/in/{file}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    yield fs, f"s3://{name}"
    fs.rm(name, recursive=True)


def run(address, config, min_score=0.0, before=None, **options):
    made = Run(f"{address}/in", f"{address}/out", **options)

    def disturb(data, rank, world_size):
        for number, document in enumerate(data):
            if before and (rank, number) == (1, 5):
                before()
            yield document

    step = QualityFilter(config, min_score=min_score, checkpoints_dir=made.checkpoints, progress=False)
    first = [made.reader(ConversationAdapter()), *([disturb] if before else [])]
    return made.execute([*first, step, made.writer("kept")])


def kept(fs, address):
    fs.invalidate_cache()
    name = address.removeprefix("s3://")
    return {
        row["id"]: row["quality_score"]
        for path in fs.find(f"{name}/out/kept")
        for row in map(json.loads, fs.cat_file(path).decode().splitlines())
    }


def test_rows_go_from_a_bucket_to_a_bucket(bucket, config, model_folder, card):
    """The card's own scores, and a second start has nothing to do."""
    fs, address = bucket
    run(address, config, min_score=-99)
    found = kept(fs, address)
    expected = card("qwen3")(turns(3)).score
    assert len(found) == 2 * ROWS and found["1-3"] == pytest.approx(expected, abs=1e-4)
    run(address, config, min_score=-99)
    assert kept(fs, address) == found


def test_scores_are_kept_in_the_bucket(bucket, config):
    """Another threshold computes nothing again."""
    fs, address = bucket
    run(address, config, min_score=-99)
    before = kept(fs, address)
    threshold = sorted(before.values())[ROWS]
    result = run(address, config, min_score=threshold, overwrite=True)
    assert kept(fs, address) == {name: score for name, score in before.items() if score >= threshold}
    assert "known from checkpoints" in result.table()


def test_one_run_owns_a_folder_in_a_bucket(bucket, config):
    """A run whose folder was taken publishes nothing more and ends with an error."""
    fs, address = bucket
    name = address.removeprefix("s3://")

    def second():
        fs.rm(f"{name}/out/logs/active.json")
        run(address, config, min_score=-99, overwrite=True)

    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(address, config, min_score=99, before=second)
    assert len(kept(fs, address)) == 2 * ROWS


def test_an_object_that_came_too_late_is_removed(bucket, config, monkeypatch):
    """The folder is taken while the object moves: as long as no other has its name, it goes again."""
    from s3fs import S3FileSystem

    fs, address = bucket
    name = address.removeprefix("s3://")

    def taken_before_move(self, source, place, *arguments, real=S3FileSystem.mv, **options):
        if place.endswith("kept/00001.jsonl"):
            record = json.loads(fs.cat_file(f"{name}/out/logs/run.json"))
            fs.pipe_file(f"{name}/out/logs/run.json", json.dumps(record | {"claim": {"id": "other"}}).encode())
        real(self, source, place, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "mv", taken_before_move)
    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(address, config, min_score=-99)
    assert [path.rpartition("/")[2] for path in fs.find(f"{name}/out/kept")] == ["00000.jsonl"]


def test_a_run_that_was_stopped_while_it_deleted_deletes_nothing_of_the_next(bucket, config, monkeypatch):
    """It looks whose the folder is before each request; the next run has ended when it goes on."""
    fs, address = bucket
    name = address.removeprefix("s3://")
    run(address, config, min_score=-99)
    before = kept(fs, address)
    claimed, taken = run_record._is_claimed, []

    def taken_meanwhile(output, record):
        fs.invalidate_cache()
        if not taken and len(fs.find(f"{name}/out/kept")) == 1:
            taken.append(True)
            fs.rm(f"{name}/out/logs/active.json")
            run(address, config, min_score=-99, overwrite=True)
        return claimed(output, record)

    monkeypatch.setattr(run_record, "_is_claimed", taken_meanwhile)
    monkeypatch.setattr(run_record, "OBJECTS_AT_ONCE", 1)
    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(address, config, min_score=99, overwrite=True)
    assert kept(fs, address) == before


def test_an_object_that_was_replaced_is_refused(bucket, config):
    """By its ETag, without reading it."""
    fs, address = bucket
    name = address.removeprefix("s3://")

    def stop():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        run(address, config, before=stop)
    content = fs.cat_file(f"{name}/in/0.jsonl")
    fs.pipe_file(f"{name}/in/0.jsonl", content.replace(b"Oi,", b"Ei,"))
    fs.invalidate_cache()
    with pytest.raises(ValueError, match=r"0\.jsonl: the content has changed"):
        run(address, config, before=stop)
