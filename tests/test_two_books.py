"""Two builds at once, and one that is killed while it puts its pages in place: there is always a whole book."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from lib.book.build import build
from lib.book.notebooks import Project
from lib.book.render import publish, recover
from samplebook import write_book


def pages(folder, text):
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(text)
    return folder


def test_builds_at_two_scales_take_turns(tmp_path):
    book = tmp_path / "_book"
    made = [pages(tmp_path / "_build" / f"scale{i}" / "_book", f"book {i}") for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda each: publish(each, book), made)) == {book / "index.html"}
    assert (book / "index.html").read_text().startswith("book ") and not (tmp_path / "_book.old").exists()
    assert not any(each.exists() for each in made)


@pytest.mark.parametrize("kill", [1, 2])
def test_a_build_that_is_killed_while_it_publishes_leaves_a_book(tmp_path, monkeypatch, kill):
    class Killed(BaseException):
        pass

    book, rename, calls = pages(tmp_path / "_book", "before"), Path.rename, []

    def dying(path, target):
        calls.append(path)
        if len(calls) == kill:
            raise Killed
        return rename(path, target)

    made = pages(tmp_path / "_build" / "smoke" / "_book", "after")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(Killed):
            publish(made, book)
    recover(book)
    assert (book / "index.html").read_text() == "before"
    assert publish(made, book).read_text() == "after" and not (tmp_path / "_book.old").exists()


def test_a_second_build_at_the_same_scale_is_refused(tmp_path, capsys):
    project = Project(tmp_path, write_book(tmp_path, "01-first"))
    folder = project.build("smoke")
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert build("smoke", project=project) == 1
    assert f"another build at scale smoke is under way in {folder}" in capsys.readouterr().err
