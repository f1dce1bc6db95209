"""One process writes a folder at a time: a lock that the system takes back when its process ends, however it ends."""

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from regard._errors import RecordError

__all__ = ["LOCK_NAME", "one_writer"]

LOCK_NAME = ".writer.lock"
"""The file that is locked; it holds the number and the machine of the process, and is gone when that ends in order."""

_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def one_writer(folder: Path | str, *, what: str, tell: Callable[[str], object]) -> Iterator[None]:
    """Hold ``folder`` meanwhile, so that no second process writes it; it is made if absent.

    The lock belongs to the open file and not to its content: after a kill, also by SIGKILL, the folder is free. A
    folder that may not be written is not locked, since nothing can go wrong in it.

    Args:
        folder: where ``what`` is written. If it was made here and is still empty in the end, it is removed.
        what: what a person calls it, such as ``"run"``.
        tell: told in one sentence where the file system has no locks; the work goes on without one.

    Raises:
        RecordError: another process writes there, or this one does already; or ``folder`` is a file.

    Example:
        >>> with one_writer(tmp_path / "first", what="run", tell=print):
        ...     (tmp_path / "first" / "notes.txt").write_text("alone")
        5
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"A {what} needs a folder, got the file {folder}; name another with --out.")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = _taken(folder, what, tell)
    try:
        yield
    finally:
        if handle is not None:
            _give_back(handle, folder / LOCK_NAME)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _taken(folder: Path, what: str, tell: Callable[[str], object]) -> int | None:
    """Return the open and locked file, or None where there is no lock to be had."""
    path = folder / LOCK_NAME
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in _READ_ONLY:
                return None
            raise
        try:
            _lock(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in _HELD:
                raise RecordError(
                    f"One process writes a {what} at a time, got {folder}, which {_owner(path)} is writing; "
                    "wait until it ends, or name another folder with --out."
                ) from error
            if error.errno not in _NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            tell(
                f"The file system of {folder} has no locks ({error.strerror}): "
                f"see to it that no other process writes this {what}."
            )
            return None
        if _is_still_there(handle, path):
            os.ftruncate(handle, 0)
            os.write(handle, f"\n{os.getpid()} {socket.gethostname()}\n".encode())
            return handle
        os.close(handle)  # its last holder removed it between opening and locking: take the new one


def _lock(handle: int) -> None:
    """Lock the file at once, or raise ``OSError``."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _give_back(handle: int, path: Path) -> None:
    if sys.platform != "win32":  # where an open file cannot be removed, and a closed one may be another's
        path.unlink(missing_ok=True)
    os.close(handle)


def _owner(path: Path) -> str:
    """Name the process that holds the lock, as far as the file says."""
    try:
        found = path.read_text(encoding="utf-8").split()
    except OSError:
        found = []
    return f"process {found[0]} on {found[1]}" if len(found) == 2 else "another process"
