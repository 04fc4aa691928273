"""Files we make and open: modes, links, and what is no file."""

import os
import stat

import pytest

from recis_core.backends.errors import NotAFile
from recis_core.durable import directory_mode, file_mode, make_directory, open_regular

WRITE = os.O_RDWR | os.O_CREAT


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("asked", "umask", "file", "directory"),
    [
        ("", 0o022, 0o600, 0o700),
        ("644", 0o022, 0o644, 0o755),
        ("664", 0o077, 0o600, 0o700),
        ("0640", 0o002, 0o640, 0o750),
    ],
)
def test_modes_are_the_users_alone_unless_asked(tmp_path, monkeypatch, asked, umask, file, directory):
    monkeypatch.setenv("RECIS_FILE_MODE", asked)
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "d")
        os.close(open_regular(tmp_path / "d" / "f", WRITE))
    finally:
        os.umask(before)
    assert (mode_of(tmp_path / "d" / "f"), mode_of(tmp_path / "d")) == (file, directory)


@pytest.mark.parametrize("asked", ["rw", "8", "1777", "444", "-644"])
def test_a_mode_that_is_none_is_refused(monkeypatch, asked):
    monkeypatch.setenv("RECIS_FILE_MODE", asked)
    with pytest.raises(ValueError, match="RECIS_FILE_MODE must be octal"):
        directory_mode() if asked == "rw" else file_mode()


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for name, flags in [("pipe", os.O_RDONLY), ("directory", os.O_RDONLY), ("directory", WRITE), ("link", WRITE)]:
        with pytest.raises(NotAFile, match=f"{name} is a {name}; wanted a regular file"):
            open_regular(tmp_path / name, flags)
    with pytest.raises(NotAFile, match="is a device"):
        open_regular(tmp_path.joinpath("/dev/null"), WRITE)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_is_followed_where_asked(tmp_path):
    (tmp_path / "there").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    os.close(open_regular(tmp_path / "link", os.O_RDONLY, follow=True))
