"""A file is replaced whole or not at all, by one function for all of them."""

from __future__ import annotations

import ast
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from storj.system import atomic_file, file_lock

PACKAGE = Path(__file__).parents[2] / 'storj'


def test_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'file'
    atomic_file.write(path, b'content')
    assert path.read_bytes() == b'content'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize('call', ['write', 'fsync', 'replace'])
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / 'file'
    atomic_file.write(path, b'old')

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'full')

    if call == 'write':
        monkeypatch.setattr(os, 'fdopen', lambda descriptor, _: fail(os.close(descriptor)))
    elif call == 'fsync':
        monkeypatch.setattr(os, 'fsync', fail)
    else:
        monkeypatch.setattr(atomic_file, 'replace', lambda *_, **__: fail())
    with pytest.raises(OSError, match='full'):
        atomic_file.write(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('sync', [True, False])
def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        done.append('folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file')
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        done.append('name')
        return replace(self, target)

    monkeypatch.setattr(os, 'fsync', spy_fsync)
    monkeypatch.setattr(Path, 'replace', spy_replace)
    atomic_file.write(tmp_path / 'file', b'content', sync=sync)
    assert done == (['file', 'name', 'folder'] if sync else ['name'])


def test_nobody_else_renames_over_a_file() -> None:
    """A second way of writing atomically would be forgotten when this one is mended."""
    for source in PACKAGE.rglob('*.py'):
        if source.name == 'atomic_file.py':
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                one = len(node.args) == 1 and not node.keywords
                renames = node.func.attr in ('replace', 'rename') and one
                assert not renames, f'{source.relative_to(PACKAGE)}:{node.lineno} renames a file'


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What a process that is killed leaves, when it has written half of a file."""
    program = """if True:
        import os, signal, sys
        from pathlib import Path
        from storj.system import atomic_file

        with atomic_file.opened(Path(sys.argv[1])) as file:
            file.write(b'half')
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, '-c', program, tmp_path / 'file'], check=False)
    [path] = tmp_path.iterdir()
    assert path.read_bytes() == b'half'
    return path


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, left: Path) -> None:
    others = [tmp_path / name for name in ('.file.part', '.file2.' + '0' * 16, '.other')]
    for other in others:
        other.write_bytes(b'mine')
    atomic_file.write(tmp_path / 'file', b'whole')
    assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / 'file', *others])


def test_file_that_another_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    with atomic_file.opened(path) as first:
        first.write(b'first')
        atomic_file.write(path, b'second')
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b'first'
    assert list(tmp_path.iterdir()) == [path]


def test_writer_whose_file_is_taken_for_left_behind_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hold, held = tmp_path / 'file', file_lock.hold, []

    def late(descriptor: int) -> bool:
        if not held:
            held.append(descriptor)
            # Another writer comes before this one has its lock.
            atomic_file.write(path, b'second')
        return hold(descriptor)

    monkeypatch.setattr(file_lock, 'hold', late)
    atomic_file.write(path, b'first')
    assert path.read_bytes() == b'first'
    assert list(tmp_path.iterdir()) == [path]


def test_writer_whose_file_is_about_to_be_removed_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hold, others = tmp_path / 'file', file_lock.hold, []

    def late(descriptor: int) -> bool:
        if not others:
            # Another writer has found the file, and locked it before this one could.
            [found] = tmp_path.iterdir()
            others.append((found, os.open(found, os.O_RDWR)))
            assert hold(others[0][1])
        return hold(descriptor)

    monkeypatch.setattr(file_lock, 'hold', late)
    with atomic_file.opened(path) as file:
        file.write(b'content')
        found, descriptor = others[0]
        found.unlink()
        os.close(descriptor)
    assert path.read_bytes() == b'content'
    assert list(tmp_path.iterdir()) == [path]


def test_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Path
) -> None:
    def refuse(descriptor: int, wait: bool) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(file_lock, '_lock_descriptor', refuse)
    atomic_file.write(tmp_path / 'file', b'whole')
    assert (tmp_path / 'file').read_bytes() == b'whole'
    # Nobody knows whether somebody is still at it.
    assert left.exists()


@pytest.mark.skipif(not hasattr(os, 'O_TMPFILE'), reason='every file has a name here')
@pytest.mark.parametrize('sync', [True, False])
def test_created_file_is_an_ordinary_one(tmp_path: Path, sync: bool) -> None:
    path, other = tmp_path / 'file', tmp_path / 'other'
    assert atomic_file.create(path, b'content', sync=sync)
    assert path.read_bytes() == b'content'
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode
    assert path.stat().st_nlink == 1


@pytest.mark.skipif(not hasattr(os, 'O_TMPFILE'), reason='every file has a name here')
@pytest.mark.parametrize('kind', ['file', 'link'])
def test_created_file_takes_no_name_of_another(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'file'
    if kind == 'file':
        path.write_bytes(b'old')
    else:
        path.symlink_to('nowhere')
    with pytest.raises(FileExistsError):
        atomic_file.create(path, b'new')
    assert [entry.name for entry in tmp_path.iterdir()] == ['file']
    assert kind == 'link' or path.read_bytes() == b'old'


@pytest.mark.parametrize('call', ['open', 'link'])
def test_file_that_cannot_be_created_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, 'not here')

    monkeypatch.setattr(os, call, refuse)
    assert not atomic_file.create(tmp_path / 'file', b'content')
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
