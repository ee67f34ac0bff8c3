"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch
from command import snapshot
from PIL import Image

from ppl_gen.app.run.exports import write_image
from ppl_gen.writing import (
    append_line,
    is_part,
    uninterrupted,
    write_atomically,
    write_beside,
    write_folder,
    write_picture,
)

NOBODY = 2**22 + 1  # no process has this number: the highest of Linux is 2²²


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Lets no file grow above so many bytes: a write is cut short, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestFullDisk:
    @pytest.mark.parametrize("kind", ["picture", "image", "array", "arrays"])
    def test_the_old_file_stays_and_the_new_one_is_named(self, kind: str, tmp_path: Path) -> None:
        """Pillow, given a file's number, takes a write that was cut short for a whole one."""
        path = tmp_path / "file.png"
        path.write_bytes(b"good")
        noise = torch.rand(3, 200, 200, generator=torch.Generator().manual_seed(0))
        figure = matplotlib.figure.Figure()
        figure.add_subplot().imshow(noise.permute(1, 2, 0).numpy())
        writers = {
            "picture": lambda: write_picture(path, figure),
            "image": lambda: write_image(path, noise),
            "array": lambda: write_atomically(path, lambda file: np.save(file, noise.numpy())),
            "arrays": lambda: write_atomically(path, lambda file: np.savez(file, x=noise.numpy())),
        }
        with small_disk(10_000), pytest.raises(OSError, match="ulimit -f") as caught:
            writers[kind]()
        assert caught.value.errno == errno.EFBIG
        assert str(caught.value).startswith(f"{path} cannot be written (File too large)")
        assert snapshot(tmp_path) == {str(path): b"good"}

    def test_a_reason_and_a_remedy_for_each_error(self, tmp_path: Path) -> None:
        for code, remedy in ((errno.ENOSPC, "make room on its disk"), (errno.EDQUOT, "quota")):

            def write(file: object, code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            with pytest.raises(OSError, match=remedy):
                write_atomically(tmp_path / "file", write)

    def test_a_folder_comes_whole_or_not_at_all(self, tmp_path: Path) -> None:
        noise = torch.rand(3, 100, 100, generator=torch.Generator().manual_seed(0))
        (tmp_path / "there").mkdir()

        def write(path: Path) -> None:
            with write_folder(path) as folder:
                write_image(folder / "0.png", torch.zeros(1, 2, 2))
                write_image(folder / "1.png", noise)

        for path in (tmp_path / "there", tmp_path / "deep" / "er"):
            name = str(path / "1.png")
            with small_disk(10_000), pytest.raises(OSError, match=f"{name} cannot be written"):
                write(path)
        assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


class TestFolders:
    def test_a_new_folder_has_all_of_its_files_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "er"
        with write_folder(path) as folder:
            write_atomically(folder / "a", lambda file: file.write(b"1"))
            assert not (tmp_path / "deep").exists()
        assert snapshot(tmp_path) == {str(path / "a"): b"1"}

    def test_files_of_a_folder_are_replaced_together(self, tmp_path: Path) -> None:
        for name in ("a", "b", "mine"):
            (tmp_path / name).write_bytes(b"old")
        with write_folder(tmp_path) as folder:
            (folder / "in").mkdir()
            for name in ("a", "b", "in/c"):
                write_atomically(folder / name, lambda file: file.write(b"new"))
            assert (tmp_path / "a").read_bytes() == b"old"
        found = {Path(name).name: held for name, held in snapshot(tmp_path).items()}
        assert found == {"a": b"new", "b": b"new", "c": b"new", "mine": b"old"}

    def test_a_folder_is_not_written_through_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "in").symlink_to(tmp_path / "elsewhere")

        def write() -> None:
            with write_folder(tmp_path / "here") as folder:
                (folder / "in").mkdir()
                write_atomically(folder / "in" / "a", lambda file: file.write(b"1"))

        with pytest.raises(OSError, match="symbolic link"):
            write()
        assert list((tmp_path / "elsewhere").iterdir()) == []


class TestLinks:
    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        precious, path = tmp_path / "precious", tmp_path / "file"
        precious.write_bytes(b"precious")
        path.symlink_to(precious)
        (tmp_path / "file.part").symlink_to(precious)
        write_atomically(path, lambda file: file.write(b"new"))
        assert (path.read_bytes(), path.is_symlink()) == (b"new", False)
        assert precious.read_bytes() == b"precious"

    def test_a_line_is_added_to_no_link_and_no_pipe(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_bytes(b"precious")
        (tmp_path / "link").symlink_to(tmp_path / "precious")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="a symbolic link, which is not written through"):
            append_line(tmp_path / "link", "line\n")
        with pytest.raises(OSError, match="a device or a pipe"):
            append_line(tmp_path / "pipe", "line\n")
        with pytest.raises(OSError, match="a device or a pipe"):
            write_atomically(tmp_path / "pipe", lambda file: file.write(b"new"))
        assert (tmp_path / "precious").read_bytes() == b"precious"

    def test_the_umask_decides_who_may_read(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_process_left_is_deleted_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    dead = tmp_path / f".file.{NOBODY}-0123abcd.part"
    alive = tmp_path / f".file.{os.getppid()}-0123abcd.part"
    other = tmp_path / f".another.{NOBODY}-0123abcd.part"
    for path in (dead, alive, other):
        path.write_bytes(b"half")
    assert is_part(dead.name)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert {path.name for path in tmp_path.iterdir()} == {"file", alive.name, other.name}


def test_a_signal_waits_for_the_end_of_what_is_not_to_be_torn() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_images_are_as_before(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", torch.tensor([[[0.0, 1.0], [0.5, 2.0]]]))
    assert np.array(Image.open(tmp_path / "image.png")).tolist() == [[0, 255], [128, 255]]


def test_room_is_sought_before_a_writer_that_ends_badly_without(tmp_path: Path) -> None:
    def write(room: int) -> None:
        with write_beside(tmp_path / "file", room) as part:
            assert part.stat().st_size == 0
            part.write_bytes(b"new")

    with small_disk(10_000):
        with pytest.raises(OSError, match="ulimit -f"):
            write(20_000)
        assert list(tmp_path.iterdir()) == []
        write(5_000)
    assert snapshot(tmp_path) == {str(tmp_path / "file"): b"new"}
