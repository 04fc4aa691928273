"""Where states lie and what they are called, which of them is the newest, and what cannot be saved at all."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize import latest_state, load_state, part_file, save_state
from tests.serialize.states import STATE, STEP, content, mark_of, names, same, saved


def test_states_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (10**8, 99_999_999, 5, 10**8 + 1, 999_999_999):
        save_state(tmp_path, step, {"x": {"step": step}})
        assert load_state(latest_state(tmp_path))["x"]["step"] == max(s for s in (step, 10**8) if s >= step)
    assert latest_state(tmp_path).name == "step-999999999"


def test_other_numbers_of_digits_count_and_other_names_do_not(tmp_path: Path) -> None:
    for name in (
        "step-abc",
        "step-",
        "step-1.old",
        "step-99x",
        "xstep-99",
        "step-9 ",
        "step--9",
        "step-9.9",
        "step-٩٩",
        "Step-99",
    ):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        latest_state(tmp_path)
    save_state(tmp_path, 7, content(7)).rename(tmp_path / "step-7")
    save_state(tmp_path, 10, content(10)).rename(tmp_path / "step-0000000000010")
    assert latest_state(tmp_path).name == "step-0000000000010"
    assert mark_of(tmp_path) == 10
    shutil.rmtree(tmp_path / "step-0000000000010")
    assert mark_of(tmp_path) == 7


@pytest.mark.parametrize("lost", ["manifest.json", "everything"])
def test_a_newest_state_that_is_damaged_is_told_of_and_not_passed_over(tmp_path: Path, lost: str) -> None:
    older, newest = saved(tmp_path, 3), saved(tmp_path, 4)
    for file in newest.iterdir():
        if lost in ("everything", file.name):
            file.unlink()
    for asked in (tmp_path, newest):
        with pytest.raises(CorruptCheckpoint, match=r"lacks manifest\.json"):
            latest_state(asked)
    with pytest.raises(CorruptCheckpoint, match=f"the newest state .* name an older one .{older}., or remove it"):
        latest_state(tmp_path)
    shutil.rmtree(newest)
    assert same(load_state(latest_state(tmp_path)), STATE)


def test_a_state_under_another_step_s_name_is_told_of(tmp_path: Path) -> None:
    saved(tmp_path, 3).rename(tmp_path / "step-00000030")
    with pytest.raises(CorruptCheckpoint, match="is of step 3"):
        latest_state(tmp_path)
    (tmp_path / "step-00000030").rename(tmp_path / "best")
    assert same(load_state(latest_state(tmp_path / "best")), STATE)


@pytest.mark.parametrize("step", [-1, 1.0, True, "3", None, 10**30])
def test_a_step_is_a_number_of_steps(tmp_path: Path, step: Any) -> None:
    with pytest.raises(ValueError, match="a state's step is an int"):
        save_state(tmp_path / "new", step, STATE)
    assert not (tmp_path / "new").exists()


CANNOT: dict[str, tuple[Any, type[Exception], str]] = {
    "a function": ({"x": {"f": [print]}}, TypeError, "state at /f/0 is a builtin_function"),
    "a key of a tuple": ({"x": {(1, 2): 3}}, TypeError, "has a key of tuple"),
    "a sparse tensor": ({"x": torch.eye(3).to_sparse()}, TypeError, "only plain strided tensors"),
    "a meta tensor": ({"x": torch.empty(3, device="meta")}, TypeError, "only plain strided tensors"),
    "complex128": ({"x": torch.zeros(3, dtype=torch.complex128)}, TypeError, "only plain strided tensors"),
    "a long integer": ({"x": 1 << 5000}, ValueError, "integer of 5001 bits"),
    "itself": ({"x": (loop := [1], loop.append(loop))}, ValueError, "nested deeper than 64"),
    "a part of a number": ({3: {}}, TypeError, "names of a state's parts are strings"),
    **{
        f"a part {n!r}": ({n: {}}, ValueError, "a part's name is a file's")
        for n in ("../x", "/x", "a/b", "a\0b", "..", "")
    },
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_saved_is_named_before_anything_is_written(tmp_path: Path, case: str) -> None:
    state, kind, said = CANNOT[case]
    with pytest.raises(kind, match=said):
        save_state(tmp_path / "new", 1, state)
    assert not (tmp_path / "new").exists()


def test_too_much_beside_tensors_is_refused(there: Path) -> None:
    with pytest.raises(ValueError, match="beside its tensors; at most"):
        save_state(there, STEP, {"x": "a" * (1 << 26)})
    assert names(there) == ["step-00000009"]
    assert mark_of(there) == 1


def test_unlike_keys_of_like_names_do_not_meet(tmp_path: Path) -> None:
    """Tensors are named by their paths, which may be written alike."""
    t = [torch.full((2,), float(i)) for i in range(6)]
    state = {
        "x": {3: t[0], "3": t[1], "a/b": t[2], "a": {"b": t[3]}, "3'": t[4]},
        "y": t[5],
        "shared": [t[0], t[0][:1]],
    }
    assert same(load_state(save_state(tmp_path, 1, state)), state)


def test_every_dtype_comes_back_and_safetensors_reads_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = {"x": {name: torch.arange(5).to(dtype) for name, dtype in part_file.DTYPES.items()}}
    state["x"] |= {
        "odd": torch.arange(12).reshape(3, 4).T[::2],
        "conj": torch.tensor([1 + 2j]).conj(),
        "no": torch.zeros(0),
        "wide": torch.ones(1).expand(3),
        "wide of one": torch.ones(1).expand(1, 1),
        "wide of none": torch.ones(1).expand(0, 1),
        "0": torch.tensor(2),
    }
    path = save_state(tmp_path, 1, state)
    back, theirs = load_state(path)["x"], load_file(path / "x.safetensors")
    for name, want in state["x"].items():
        for got in (back[name], theirs[f"/{name}"]):
            assert got.dtype == want.dtype
            assert bytes(got.contiguous().reshape(-1).view(torch.uint8)) == bytes(
                want.resolve_conj().contiguous().reshape(-1).view(torch.uint8)
            )


def test_what_is_no_directory_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for name in ("file", "pipe"):
        with pytest.raises(OSError):
            save_state(tmp_path / name, 1, STATE)
    for name in ("file", "pipe", "link"):
        kept = tmp_path / "states" / "step-00000001"
        kept.parent.mkdir(exist_ok=True)
        (tmp_path / name).rename(kept)
        with pytest.raises(NotADirectoryError, match="stands where a state's directory belongs"):
            save_state(tmp_path / "states", 1, STATE)
        kept.rename(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path / "states") == names(tmp_path / "elsewhere") == []


def test_what_a_dead_save_left_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").touch()
    states = tmp_path / "states"
    states.mkdir()
    (states / ".step-00000001.writing").symlink_to(kept)
    (states / ".step-00000002.writing").write_text("a file")
    (states / ".step-00000003.writing").mkdir()
    (states / ".step-00000003.writing" / "part").symlink_to(kept)
    saved(states, 1)
    assert names(states) == ["step-00000001"]
    assert names(kept) == ["mine"]


@pytest.mark.parametrize(
    ("asked", "file", "directory"), [("", 0o600, 0o700), ("644", 0o644, 0o755), ("640", 0o640, 0o750)]
)
def test_files_are_the_user_s_alone_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, file: int, directory: int
) -> None:
    monkeypatch.setenv("RECIS_FILE_MODE", asked)
    before = os.umask(0)
    try:
        path = saved(tmp_path / "states")
    finally:
        os.umask(before)
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path, *path.iterdir())}
    assert modes.pop(path.parent) == modes.pop(path) == directory
    assert set(modes.values()) == {file}
