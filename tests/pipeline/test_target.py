"""Where what is made of an output may go."""

import os

import pytest

from pipeline.target import begin, check
from transforms.errors import UsageError
from transforms.output import pending


@pytest.mark.parametrize(
    ("path", "folder", "said"),
    [
        ("", True, "--to: is empty; expected a folder"),
        ("", False, "--to: is empty; expected the name of a file"),
        ("{}/file", True, "--to {}/file: is a file; expected a folder"),
        ("{}", False, "--to {}: is a folder; expected the name of a file"),
        ("{}/file/x/y", False, "--to {}/file/x/y: {}/file is a file; expected the name of a file"),
        (
            "foo://bar/x",
            True,
            "--to foo://bar/x: expected a path, or a URL that begins with s3, gs, az, hdfs",
        ),
    ],
)
def test_mistakes(tmp_path, path, folder, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as e:
        check(path.replace("{}", str(tmp_path)), folder=folder)
    assert str(e.value) == said.replace("{}", str(tmp_path))


def test_what_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    check(str(tmp_path / "file"), folder=False)
    check(str(tmp_path / "new" / "folder"), folder=True)
    check("s3://bucket/x", folder=True)
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_unfinished_is_deleted_at_once(tmp_path):
    """As a signal's handler does, which waits for nobody."""
    done, left = begin(str(tmp_path / "done")), begin(str(tmp_path / "left"))
    done.write(b"x")
    done.commit()
    left.write(b"y")
    folder = tmp_path / "folder"
    with pending.unfinished(str(folder)):
        (folder / "sub").mkdir(parents=True)
        pending.delete_unfinished()
        assert os.listdir(tmp_path) == ["done"]
    left.discard()
    pending.delete_unfinished()
    assert os.listdir(tmp_path) == ["done"]
