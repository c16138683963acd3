import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from scorefield.data import atomic_folder, atomic_write, check_writable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_in_the_middle(path):
    with atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError("stop")


def fill_half(path):
    with atomic_folder(path) as new:
        (new / "a").write_text("half")
        raise RuntimeError("stop")


def test_write_makes_parents_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    for text in ("first", "second\n"):
        with atomic_write(path, "w") as file:
            file.write(text)
        assert path.read_bytes() == text.encode()
    assert names(path.parent) == ["b.txt"]


def test_failure_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_in_the_middle(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with atomic_write(path) as file:
            file.write(b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_nothing_is_visible_before_the_end(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def write_four_megabytes(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with atomic_write(path) as file:
            file.write(bytes(1 << 22))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_refuses_surfaces(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="large"):
        write_four_megabytes(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_disk_full_at_the_last_moment(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    with pytest.raises(OSError, match="No space left"), atomic_folder(tmp_path / "b") as new:
        (new / "x").write_text("x")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    program = (
        "import os, sys\n"
        "from scorefield.data.files import atomic_write\n"
        "with atomic_write(sys.argv[1], 'w') as file:\n"
        "    file.write('half')\n"
        "    file.flush()\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_what_is_no_regular_file_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="not a regular file"), atomic_write(tmp_path / "folder"):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="not a regular file"), atomic_write(tmp_path / "pipe"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"), atomic_write(tmp_path / "file" / "below"):
        pass
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "file"):
        pass


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link", "w") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    with atomic_folder(tmp_path / "b") as new:
        (new / "x").write_text("x")
    (tmp_path / "c").mkdir()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "c").stat().st_mode


def test_folder_appears_whole(tmp_path):
    path = tmp_path / "out" / "samples"
    with atomic_folder(path) as new:
        (new / "deep").mkdir()
        (new / "deep" / "x").write_text("x")
        assert not path.exists()
    assert (path / "deep" / "x").read_text() == "x"
    assert names(path.parent) == ["samples"]


def test_folder_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        fill_half(tmp_path / "samples")
    assert names(tmp_path) == []


def test_a_folder_with_something_in_it_stays(tmp_path):
    path = tmp_path / "samples"
    path.mkdir()
    with atomic_folder(path) as new:
        (new / "x").write_text("first")
    with pytest.raises(FileExistsError, match="not an empty folder"), atomic_folder(path):
        pass
    assert (path / "x").read_text() == "first"
    assert names(tmp_path) == ["samples"]


def fill_late(path):
    with atomic_folder(path) as new:
        (new / "x").write_text("late")
        path.mkdir()
        (path / "x").write_text("early")


def test_a_folder_made_meanwhile_stays(tmp_path):
    path = tmp_path / "samples"
    with pytest.raises(OSError, match="not empty"):
        fill_late(path)
    assert (path / "x").read_text() == "early"
    assert names(tmp_path) == ["samples"]


def test_what_could_not_be_written_is_known_before(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").write_text("x")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "folder", folder=True)
    for path, folder in ((tmp_path / "file" / "a", False), (tmp_path / "full", False), (tmp_path / "full", True)):
        with pytest.raises(OSError, match=path.name):
            check_writable(path, folder=folder)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full"]


def test_a_full_disk_names_the_file(tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"), atomic_write(tmp_path / "a.bin"):
        full()
    with pytest.raises(OSError, match=r"No space left on device: '.*a'"), atomic_folder(tmp_path / "a"):
        full()
