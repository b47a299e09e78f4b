"""How shared memory gets a name, and when it is gone.

# Memory without a file

Memory that is created without a name is a file without a name (``O_TMPFILE``), whose bytes the
kernel frees with its last user. Each process that has it binds a socket in the abstract namespace,
which is called ``pagemate/shm``, the name of the memory, the process id, the number of the
descriptor, and the inode. To attach by the name, a process finds such a socket in
``/proc/net/unix``, and opens the descriptor in ``/proc``. When a process ends, the kernel removes its
sockets. So the table of users is the kernel's, and cannot be wrong. It is that of the network
namespace: in another one the memory can only be attached by pickling or inheriting the object.

``unlink`` sets the sticky bit of the file, after which nobody attaches.

# Memory with a file

Memory with a given name is a file in ``/dev/shm``. Memory of the other kind becomes such a file when
the process that has created it closes it, or ends, without ``unlink``, and has a parent that is a
``multiprocessing`` process: the parent may know the name. Each user has a shared ``flock`` on the
file, and the file has an attribute that names the main process of its creator. A file is removed

- by ``unlink``;
- when that main process ends, unless somebody uses it;
- when that main process is dead, and nobody uses it, by the next process that creates memory.

# Death

| who dies | left |
|---|---|
| all users of memory without a file | nothing |
| the creator of a file, its main process lives | the file, as when it is closed |
| all processes, by SIGKILL, and there was a file | the file, until a process creates memory |
"""

import errno
import fcntl
import os
import re
import socket
import stat
from multiprocessing import process, util
from multiprocessing import shared_memory as _standard

DIRECTORY = "/dev/shm"
_SOCKET = "pagemate/shm"
_ATTRIBUTE = "user.pagemate.main"
_MAIN = "PAGEMATE_MAIN_PROCESS"

#: Memory without a file that this process has created and nobody has unlinked, by name.
_created = {}
#: All memory that this process has open.
_open = set()


def _path(name):
    return DIRECTORY + name


def _gone(name):
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


class Holder:
    """An open descriptor of shared memory."""

    def __init__(self, name, descriptor, has_file):
        self.name, self.descriptor, self.has_file = name, descriptor, has_file
        self.inode = os.fstat(descriptor).st_ino
        self.sockets = []
        self.is_kept = False
        if has_file:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        else:
            self.announce()
        _open.add(self)

    def announce(self):
        """Lets others find the descriptor of this process."""
        for bound in self.sockets:
            bound.close()
        self.sockets = [_bound(f"{self.name}:{os.getpid()}:{self.descriptor}:{self.inode}")]

    def close(self):
        """Closes it, unless this process has created it and the name must go on leading to it."""
        if _created.get(self.name) is self:
            self.is_kept = process.parent_process() is None or not self.make_file()
        if not self.is_kept:
            self.release()

    def release(self):
        """Closes it."""
        _open.discard(self)
        if _created.get(self.name) is self:
            del _created[self.name]
        for bound in self.sockets:
            bound.close()
        os.close(self.descriptor)

    def make_file(self):
        """Makes it a file, so that it stays without this process. Returns whether that is possible."""
        try:
            _mark(self.descriptor)
            os.link(f"/proc/self/fd/{self.descriptor}", _path(self.name), follow_symlinks=True)
        except OSError:  # it is no file of that directory
            return False
        return True


def _bound(name):
    """Returns a socket with this name, which nobody else has."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        bound.bind(f"\0{_SOCKET}{name}")
    except BaseException:
        bound.close()
        raise
    return bound


def create(size, mode):
    """Creates memory without a file, under a new name."""
    _sweep_once()
    try:
        descriptor = os.open(DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError:  # there is no such directory, or its file system does not have this
        descriptor = os.memfd_create("pagemate")
    try:
        os.posix_fallocate(descriptor, 0, size)
        while True:
            name = _standard._make_filename()
            try:
                reserved = _bound(name)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            if not os.path.lexists(_path(name)):
                break
            reserved.close()
        holder = Holder(name, descriptor, False)
    except BaseException:
        os.close(descriptor)
        raise
    holder.sockets.append(reserved)
    _created[name] = holder
    return holder


def open_file(name, flags, mode, size=None):
    """Opens memory by its name. Creates a file of ``size`` bytes if that is not None."""
    if size is not None:
        _sweep_once()
    try:
        descriptor = _open_path(name, flags, mode)
    except FileExistsError:
        if not _remove_if_stale(_path(name)):
            raise
        descriptor = _open_path(name, flags, mode)
    except FileNotFoundError:
        return _find(name)
    try:
        if size is not None:
            _mark(descriptor)
            os.posix_fallocate(descriptor, 0, size)
        return Holder(name, descriptor, True)
    except BaseException:
        os.close(descriptor)
        if size is not None:
            os.unlink(_path(name))
        raise


def _open_path(name, flags, mode):
    if "/" in name[1:]:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return os.open(_path(name), flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)


def _find(name):
    """Opens memory without a file, through a process that has it."""
    for pid, number, inode in _users(name):
        try:
            descriptor = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        status = os.fstat(descriptor)
        if status.st_ino == inode and not status.st_mode & stat.S_ISVTX:
            return Holder(name, descriptor, False)
        os.close(descriptor)
    raise _gone(name)


def _users(name):
    """Returns process id, descriptor and inode of all users of memory without a file."""
    pattern = re.compile(re.escape(f"@{_SOCKET}{name}") + r":(\d+):(\d+):(\d+)$", re.MULTILINE)
    with open("/proc/net/unix") as table:
        return [tuple(map(int, match)) for match in pattern.findall(table.read())]


def unlink(name):
    """Removes a name. Raises FileNotFoundError if nothing has it."""
    try:
        descriptor = _open_path(name, os.O_RDWR, 0)
    except FileNotFoundError:
        pass
    else:
        try:
            os.unlink(_path(name))
            _forbid(descriptor)
        finally:
            os.close(descriptor)
            _created.pop(name, None)
        return
    holder = next((user for user in _open if user.name == name and not user.has_file), None)
    is_found = holder is None
    if is_found:
        holder = _find(name)
    try:
        if not _forbid(holder.descriptor):
            raise _gone(name)
        _created.pop(name, None)
    finally:
        if is_found or holder.is_kept:
            holder.release()


def _forbid(descriptor):
    """Lets nobody attach any more. Returns whether somebody could."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.fchmod(descriptor, mode | stat.S_ISVTX)
    return not mode & stat.S_ISVTX


# Files that nobody will unlink


def _started(pid):
    """Returns when a process was started, in ticks; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None


def _main_process():
    """Returns what names the main process of this one: its id, and when it was started."""
    if process.parent_process() is None:
        os.environ[_MAIN] = f"{os.getpid()}:{_started(os.getpid())}"
    elif _MAIN not in os.environ:
        parent = process.parent_process().pid
        os.environ[_MAIN] = f"{parent}:{_started(parent)}"
    return os.environ[_MAIN]


def _mark(descriptor):
    try:
        os.setxattr(descriptor, _ATTRIBUTE, _main_process().encode())
    except OSError:
        pass  # the file system has no attributes: only `unlink` removes the file


def _remove_if(path, is_removable):
    """Removes a file of which nobody has a lock, if its main process says so."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not is_removable(os.getxattr(descriptor, _ATTRIBUTE).decode()):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino != os.fstat(descriptor).st_ino:
            return False
        os.unlink(path)
        _forbid(descriptor)
    except (OSError, ValueError):
        return False
    finally:
        os.close(descriptor)
    return True


def _is_dead(main):
    pid, started = main.split(":")
    return str(_started(int(pid))) != started


def _remove_if_stale(path):
    return _remove_if(path, _is_dead)


def _sweep(is_removable):
    with os.scandir(DIRECTORY) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) and os.getxattr(entry.path, _ATTRIBUTE):
                    _remove_if(entry.path, is_removable)
            except OSError:
                pass  # it has no such attribute


_has_swept = False


def _sweep_once():
    global _has_swept
    if not _has_swept:
        _has_swept = True
        if os.path.isdir(DIRECTORY):
            _sweep(_is_dead)


def _end():
    """Called when a process ends, also a child."""
    for holder in [*_created.values()]:
        if process.parent_process() is not None:
            holder.make_file()
    if process.parent_process() is None and _MAIN in os.environ and os.path.isdir(DIRECTORY):
        own = _main_process()
        for holder in [*_open]:
            if holder.has_file:
                fcntl.flock(holder.descriptor, fcntl.LOCK_UN)
        _sweep(own.__eq__)


def _after_fork():
    _created.clear()
    for holder in [*_open]:
        if holder.is_kept:
            holder.release()
        elif not holder.has_file:
            holder.announce()


util.Finalize(None, _end, exitpriority=0)
util.register_after_fork(_end, lambda _: util.Finalize(None, _end, exitpriority=0))
os.register_at_fork(after_in_child=_after_fork)
