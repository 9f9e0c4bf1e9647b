"""The store's files: what counts as a result, and what a broken file does."""

import errno
from pathlib import Path

import pytest

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.files import PlaceError
from papers_lib.runs import store as store_module
from papers_lib.runs.store import Store, lock, needed_weights, read_spec, write_result


def finish(store, spec, value=1):
    folder = store.prepare(spec)
    write_result(folder, {"value": value}, {"key": spec.key, "code": spec.code, "seconds": 1.0})
    return folder


def test_folder_by_paper_and_key_below_the_root_of_the_environment(store, toy, monkeypatch):
    spec = toy("square", x=1)
    assert store.folder(spec) == store.root / "toy" / spec.key[:20]
    located = store.located(toy("total", needs=[spec]))
    assert located.needs[0].folder == str(store.folder(spec))
    monkeypatch.setenv("PAPERS_RUNS", str(store.root))
    assert Store().root == store.root


def test_result_reads_as_attributes_and_items(store, toy):
    spec = toy("square", x=1)
    assert store.result(spec) is None
    folder = finish(store, spec)
    result = store.result(spec)
    assert result["metrics"] == result.metrics == {"value": 1}
    assert result.spec.folder == str(folder) and result.spec.key == spec.key


def test_states(store, toy):
    spec = toy("square", x=1)
    assert store.state(spec) == "todo"
    folder = store.prepare(spec)
    assert store.state(spec) == "todo"
    (folder / "checkpoint.pt").touch()
    assert store.state(spec) == "partial"
    with lock(folder):
        assert store.state(spec) == "running"
    (folder / "failed.json").write_text('{"error": "e", "traceback": "t"}')
    assert store.state(spec) == "failed" and store.failure(spec).error == "e"
    finish(store, spec)
    assert store.state(spec) == "done"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"metrics": {}}', b"\xff\xfe", b"\0" * 50, b"[" * 9999]
)
def test_corrupt_result_is_moved_aside_and_not_done(store, toy, capsys, content):
    spec = toy("square", x=1)
    folder = finish(store, spec)
    (folder / "result.json").write_bytes(content)
    assert store.result(spec) is None
    assert (folder / "result.json.corrupt").read_bytes() == content
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert store.state(spec) == "todo"


@pytest.mark.parametrize(
    ("old", "new"), [('"value": 1', '"value": 2'), ('"x": 1', '"x": 2'), ('"seconds": 1.0', '"seconds": 2.0')]
)
def test_a_result_that_was_changed_is_not_believed(store, toy, old, new):
    spec = toy("square", x=1)
    path = finish(store, spec) / "result.json"
    text = path.read_text()
    assert store.result(spec) is not None and old in text
    path.write_text(text.replace(old, new))
    assert store.result(spec) is None and path.with_name("result.json.corrupt").exists()


def test_a_result_of_another_run_is_not_believed(store, toy):
    one, other = toy("square", x=1), toy("square", x=2)
    text = (finish(store, one) / "result.json").read_text()
    (store.prepare(other) / "result.json").write_text(text)
    assert store.result(one) is not None and store.result(other) is None


def test_damaged_weights_of_a_needed_run_make_it_count_as_not_done(store, toy, capsys):
    need = toy("square", x=1)
    spec = store.located(toy("total", needs=[need]))
    folder = finish(store, need)
    with pytest.raises(PapersError, match=r"computes .* again"):
        needed_weights(spec)  # missing
    assert store.result(need) is None
    finish(store, need)
    checkpoint.save(folder / "weights.pt", {"w": 1})
    assert needed_weights(spec) == folder / "weights.pt"
    raw = bytearray((folder / "weights.pt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "weights.pt").write_bytes(raw)
    with pytest.raises(PapersError, match=r"weights\.pt is missing or damaged") as caught:
        needed_weights(spec)
    assert "\n" not in str(caught.value) and store.result(need) is None
    assert not (folder / "weights.pt").exists() and store.result(need) is None


def test_finished_walks_all_papers_and_skips_the_broken(store, toy, capsys):
    specs = [toy("square", x=x) for x in range(3)]
    folders = [finish(store, spec, value) for value, spec in enumerate(specs)]
    finish(store, specs[0].model_copy(update={"paper": "another"}), 9)
    (folders[1] / "result.json").write_text("{")
    store.prepare(toy("square", x=7))
    found = list(store.finished())
    assert sorted(r.metrics["value"] for r in found) == [0, 2, 9]
    assert found[0].spec.paper == "another"
    assert list(Store(store.root / "absent").finished()) == []


@pytest.mark.parametrize("content", [None, "", "{", '{"paper": 1}'])
def test_broken_spec_is_one_line_and_prepare_mends_it(store, toy, content):
    spec = toy("square", x=1)
    path = store.prepare(spec) / "spec.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(PapersError) as caught:
        read_spec(path.parent)
    assert "\n" not in str(caught.value) and str(path.parent) in str(caught.value)
    assert read_spec(store.prepare(spec)) == spec


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "no room"), (errno.EROFS, "writable")])
def test_full_or_read_only_disk(store, toy, monkeypatch, code, said):
    def refuse(*_, **__):
        raise OSError(code, "no")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(PlaceError, match=said) as caught:
        store.prepare(toy("square", x=1))
    assert "PAPERS_RUNS" in str(caught.value) and str(store.root) in str(caught.value)


def test_a_result_that_cannot_be_moved_aside(store, toy, monkeypatch):
    spec = toy("square", x=1)
    (finish(store, spec) / "result.json").write_text("{")

    def refuse(self, target):
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PlaceError, match=r"result\.json"):
        store_module.read_result(store.folder(spec))
