"""The memory of a manager: which objects are in it, who refers to them, and when they are freed.

An object lives while a process has a proxy of it, while a pickled proxy is under way, and while a
container in the same memory holds one. The *registry* is a dict in the memory, which is changed
under a lock:

| key | value |
|---|---|
| ``o`` and the number of an object | its kind, its *slot* and parameters, and its references |
| ``p`` and the number of a process | which process has forked it and waits for it to begin; empty: none |
| ``f`` and a kind with parameters | slots that may be used again |

A slot is the memory of an object, by its name. It stays when an object is freed, because the
library gives back what an object contains, but not the object itself.

Each process has a number, and holds the lock of that number as long as it lives. So others find out
whether it does, and the registry names processes by their numbers.

# References

- A process that has a first proxy of an object, or has dropped the last one, says so in the object.
- Pickling a proxy counts it as under way, and unpickling it ends that. If it is unpickled more than
  once, or when nobody refers to the object any more, it is like in ``multiprocessing``: the first
  time is safe. If it is never unpickled, the object lives as long as the manager.
- A pickle that is stored in a container of the same memory is marked with the numbers of the
  objects in it, and the objects are marked as stored. Such an object is freed by *collection*: all
  objects are marked that a process refers to, or that are under way, or that are in containers of
  marked objects; all others are freed. It is done when there are twice as many objects as after
  the last time.

# Death

| who dies | noticed by | lost |
|---|---|---|
| a process with proxies | collection: the lock of its number is free | nothing |
| a process that has pickled a proxy, before it has sent it | nobody | the object lives on |
| a forked process, before it has begun | collection, once its parent is dead | nothing |
| a process in a change of the registry | the next change: the lock is robust | see below |

Each change of the registry is one step, and comes before what it allows and after what it forbids. So
a death leaves at most an object that nobody refers to, which the next collection frees, and a slot
that is not used again.

The process that has created the manager keeps its descriptor open. Others attach through it, or
through that of the process which has pickled the proxy. When both have ended, those that are
attached go on, and no others can attach.
"""

import os
import pickle
import struct
import threading
import weakref

from .. import _pagemate
from . import pool_worker
from .manager_keys import key_of

__all__ = ["Memory", "attach"]

#: The memories that this process is attached to, by device and inode.
_memories = weakref.WeakValueDictionary()
_attaching = threading.RLock()

_local = threading.local()

#: There is no collection with fewer objects.
FEW = 64


class Memory:
    """A manager's memory, in this process."""

    def __init__(self, source=None):
        is_new, this = source is None, weakref.ref(self)
        # Every object of this memory has `native`, and every proxy this object, too. So it is there
        # when these are called.
        self.native = _pagemate.ManagerMemory(
            lambda value: this()._dumps(value),
            pool_worker.loads,
            lambda pickled: this()._loads_linked(pickled),
            key_of,
            source=source,
        )
        self.descriptor = self.native.descriptor()
        status = os.fstat(self.descriptor)
        self.identity = status.st_dev, status.st_ino
        self.addresses = ()
        self.registry = _pagemate.ManagerBytes(self.native, "registry")
        self.lock = _pagemate.Lock(source=(self.native, "registry.lock", is_new))
        self.local = threading.RLock()  # for what follows, and before `lock`
        self.holds = weakref.WeakValueDictionary()
        self.dropped = []
        self.process = self.process_lock = None
        self.threshold = FEW
        _memories[self.identity] = self

    def check(self):
        """Raises BrokenPipeError if the manager was shut down."""
        self.native.check_open()

    # Pickles of values

    def _dumps(self, value):
        before = getattr(_local, "links", None)
        _local.links = self, []
        try:
            pickled = pool_worker.dumps(value)
            links = _local.links[1]
        finally:
            _local.links = before
        if not links:
            return pickled
        self._change(self._mark_stored, links)
        return pickled, links

    def _loads_linked(self, pickled):
        before, _local.loading = getattr(_local, "loading", None), self
        try:
            return pool_worker.loads(pickled)
        finally:
            _local.loading = before

    def reduce(self, number):
        """Returns what an object's proxy is pickled as."""
        memory, links = getattr(_local, "links", None) or (None, None)
        if memory is self:
            links.append(number)
            return _from_container, (number,)
        self.check()
        self._change(self._begin_transit, number)
        own = os.getpid(), self.descriptor
        addresses = (own, *(address for address in self.addresses if address != own))
        return _from_transit, (addresses, self.identity, number)

    # The registry, whose changes run under its lock

    def _change(self, change, *args):
        # Whatever the collector frees meanwhile is dropped afterwards.
        with self.local, self.lock:
            self._enter()
            result = change(*args)
            while self.dropped:
                self._drop(self.dropped.pop())
        return result

    def _get(self, number):
        packed = self.registry.get(_key(b"o", number))
        return None if packed is None else Record(*pickle.loads(packed))

    def _put(self, number, record):
        self.registry.set(_key(b"o", number), pickle.dumps(record.state(), 5))

    def _enter(self):
        """Gives this process a number, unless it has one."""
        if self.process is None:
            number = self._new_process(b"")
            self._hold_process(number)

    def _new_process(self, parent):
        slot = self._take_slot(b"process")
        number = self.native.number() if slot is None else int(slot)
        _pagemate.Lock(source=(self.native, f"process {number}", slot is None))
        self.registry.set(_key(b"p", number), parent)
        return number

    def _hold_process(self, number):
        self.process_lock = _pagemate.Lock(source=(self.native, f"process {number}", False))
        self.process_lock.acquire()
        self.registry.set(_key(b"p", number), b"")
        self.process = number

    def _take_slot(self, kind):
        packed = self.registry.get(b"f" + kind)
        slots = pickle.loads(packed) if packed else []
        if not slots:
            return None
        slot = slots.pop()
        self.registry.set(b"f" + kind, pickle.dumps(slots))
        return slot

    def _give_slot(self, kind, slot):
        packed = self.registry.get(b"f" + kind)
        slots = pickle.loads(packed) if packed else []
        self.registry.set(b"f" + kind, pickle.dumps([*slots, slot]))

    def _mark_stored(self, numbers):
        for number in numbers:
            record = self._get(number)
            if record is not None and not record.stored:
                record.stored = True
                self._put(number, record)

    def _begin_transit(self, number):
        record = self._get(number)
        if record is not None:
            record.transit += 1
            self._put(number, record)

    def _refer(self, number, in_transit):
        record = self._get(number)
        if record is None:
            raise KeyError(f"the managed object {number} is gone: nobody referred to it any more")
        if in_transit and record.transit:
            record.transit -= 1
        if self.process not in record.processes:
            record.processes.append(self.process)
        self._put(number, record)
        return record

    def _drop(self, number):
        if number in self.holds:
            return  # another thread has got a proxy meanwhile
        record = self._get(number)
        if record is None:
            return
        if self.process in record.processes:
            record.processes.remove(self.process)
        if record.processes or record.transit or record.stored:
            self._put(number, record)
        else:
            self._free(number, record)

    def _free(self, number, record):
        self.registry.remove(_key(b"o", number))
        native = record.kind._native(self.native, record.slot, record.parameters, False)
        if record.kind._empty(native, record.parameters):
            self._give_slot(record.slots(), record.slot)

    # Objects

    def create(self, kind, parameters=()):
        """Creates an object, and returns a proxy of it."""
        self.check()
        self._collect_if_due()
        with self.local:
            number, record = self._change(self._create, kind, parameters)
            return kind._open(self._hold(number), record.slot, parameters)

    def _create(self, kind, parameters):
        number = self.native.number()
        record = Record(kind, None, parameters, False, 0, [self.process])
        record.slot = self._take_slot(record.slots())
        if record.slot is None:
            record.slot = f"object {number}"
            kind._native(self.native, record.slot, parameters, True)
        self._put(number, record)
        return number, record

    def _hold(self, number):
        hold = self.holds.get(number)
        if hold is None:
            hold = self.holds[number] = Hold(self, number)
        return hold

    def refer(self, number, in_transit):
        """Returns a hold on an object, and its record."""
        self.check()
        with self.local:
            record = self._change(self._refer, number, in_transit)
            return self._hold(number), record

    def proxy(self, number):
        """Returns a proxy of an object that is in another one."""
        hold, record = self.refer(number, False)
        return record.kind._open(hold, record.slot, record.parameters)

    def keep(self, number):
        """Says that an object is in another one."""
        self._change(self._mark_stored, [number])

    def drop(self, number):
        """Called when the last proxy in this process is gone. May be called in any code."""
        self.dropped.append(number)
        if not self.local.acquire(blocking=False):
            return  # whoever has it does the rest
        try:
            if not self.lock._is_mine() and self.lock.acquire(False):
                try:
                    while self.dropped:
                        self._drop(self.dropped.pop())
                finally:
                    self.lock.release()
        finally:
            self.local.release()

    def _records(self):
        records = {}
        for key in self.registry.keys():
            if key[:1] == b"o":
                (number,) = struct.unpack("<Q", key[1:])
                if (record := self._get(number)) is not None:
                    records[number] = record
        return records

    def _collect_if_due(self):
        if len(self.registry) >= 2 * self.threshold:
            self.threshold = max(FEW, self._change(self._collect))

    def count(self):
        """Returns the number of objects that somebody refers to."""
        return self._change(self._collect)

    def _collect(self):
        """Frees the objects that nobody refers to. Returns the number of the others."""
        alive, records = {}, self._records()
        for key in self.registry.keys():
            if key[:1] == b"p":
                (number,) = struct.unpack("<Q", key[1:])
                alive[number] = self._is_alive(number, alive)
        for number, record in records.items():
            processes = [process for process in record.processes if alive.get(process)]
            if processes != record.processes:
                record.processes = processes
                self._put(number, record)
        marked, found = set(), [n for n, r in records.items() if r.processes or r.transit]
        while found:
            number = found.pop()
            if number in marked or number not in records:
                continue
            marked.add(number)
            record = records[number]
            found += record.kind._links_of(self.native, record.slot, record.parameters)
        for number in records.keys() - marked:
            self._free(number, records[number])
        for number in [number for number, lives in alive.items() if not lives]:
            self.registry.remove(_key(b"p", number))
            self._give_slot(b"process", str(number))
        return len(marked)

    def _is_alive(self, number, known):
        if number in known:
            return known[number]
        parent = self.registry.get(_key(b"p", number))
        if parent is None:
            return False
        if number == self.process:
            return True
        lock = _pagemate.Lock(source=(self.native, f"process {number}", False))
        if not lock.acquire(False):
            return True
        lock.release()
        # It may be about to begin.
        return bool(parent) and self._is_alive(struct.unpack("<Q", parent)[0], known)

    # Forks

    def before_fork(self):
        """Prepares a number for the child, which refers to the same objects."""
        self.local.acquire()
        self.heir = None
        if self.holds and not self._is_closed():
            with self.lock:
                self._enter()
                self.heir = self._new_process(struct.pack("<Q", self.process))
                for number in [*self.holds]:
                    record = self._get(number)
                    if record is not None:
                        record.processes.append(self.heir)
                        self._put(number, record)

    def after_fork(self, is_child):
        """Ends what `before_fork` has begun."""
        self.local.release()
        if is_child:
            self.process = self.process_lock = None
            self.dropped.clear()
            if self.heir is not None:
                with self.lock:
                    self._hold_process(self.heir)

    def _is_closed(self):
        try:
            self.check()
        except BrokenPipeError:
            return True
        return False


class Record:
    """What the registry knows of an object."""

    def __init__(self, kind, slot, parameters, stored, transit, processes):
        self.kind, self.slot, self.parameters = kind, slot, parameters
        self.stored, self.transit, self.processes = stored, transit, processes

    def state(self):
        """Returns the arguments that lead to the same record."""
        return self.kind, self.slot, self.parameters, self.stored, self.transit, self.processes

    def slots(self):
        """Returns the name of the slots that such an object can have."""
        return repr((self.kind.__qualname__, self.kind._sizes(self.parameters))).encode()


class Hold:
    """The reference of this process to an object, which all proxies of the object share."""

    def __init__(self, memory, number):
        self.memory, self.number = memory, number

    def __del__(self):
        try:
            self.memory.drop(self.number)
        except Exception:
            pass  # the manager was shut down, or the interpreter is


def _key(prefix, number):
    return prefix + struct.pack("<Q", number)


def attach(addresses, identity):
    """Returns the memory with this identity. Attaches to it through one of the addresses."""
    with _attaching:
        memory = _memories.get(identity)
        if memory is not None:
            return memory
        for pid, number in addresses:
            try:
                descriptor = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == identity:
                memory = Memory(descriptor)
                memory.addresses = addresses
                return memory
            os.close(descriptor)
    raise ConnectionRefusedError("the process that has created the manager has ended")


def _from_transit(addresses, identity, number):
    hold, record = attach(addresses, identity).refer(number, True)
    return record.kind._open(hold, record.slot, record.parameters)


def _from_container(number):
    return _local.loading.proxy(number)


def _before_fork():
    _attaching.acquire()
    for memory in [*_memories.values()]:
        memory.before_fork()


def _after_fork(is_child):
    for memory in [*_memories.values()]:
        memory.after_fork(is_child)
    _attaching.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(False),
    after_in_child=lambda: _after_fork(True),
)
