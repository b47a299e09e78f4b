"""Canonical bytes of the keys of a ``Manager().dict()``, so that equal keys have equal bytes.

The native half does this for the common built-in types. Here are the others:

- Numbers are equal across types, as in Python: ``Decimal("0.5") == Fraction(1, 2) == 0.5``, and
  complex numbers without an imaginary part are real.
- A ``frozenset`` is equal to one with equal elements, and a ``range`` to one with equal items.
- An object of a subclass that inherits equality and hash is equal to that of the base: a member of
  an ``IntEnum`` to its number, a named tuple to a tuple.
- Two other objects are one key if they are of one class and have the same state, which is what
  their pickles contain. So it is for dataclasses, ``datetime``, ``UUID``, ``Path``, for classes and
  functions, and for members of an ``Enum``. It makes a difference only for classes that call objects
  of different states equal, such as a ``datetime`` in two time zones, or that keep ``1`` in one
  object and ``1.0`` in another. An object with the equality of ``object`` is found again by a copy.
"""

import decimal
import fractions
import io
import pickle
import struct

__all__ = ["key_of"]

#: Types whose canonical bytes the native half makes, or the functions below.
_BASES = (int, float, str, bytes, tuple, frozenset, complex)


def key_of(key):
    """Returns the canonical bytes of a key. Raises TypeError if it cannot be hashed."""
    hash(key)
    function = _FUNCTIONS.get(type(key))
    if function is None:
        function = _inherited(type(key)) or _state
    return function(key)


def _inherited(cls):
    """Returns the function of the built-in type whose equality and hash a class inherits."""
    for base in _BASES:
        if issubclass(cls, base) and cls.__eq__ is base.__eq__ and cls.__hash__ is base.__hash__:
            return lambda key: _canonical(_plain(base, key))
    return None


def _plain(base, key):
    """Returns an object of a built-in type that is equal to one of a subclass."""
    if base is complex:
        return complex(key.real, key.imag)
    return base.__new__(base, key) if base in (tuple, frozenset) else base.__getnewargs__(key)[0]


def _canonical(key):
    """Returns the bytes that the native half makes of a key, also of a built-in type."""
    kind = type(key)
    if kind in _FUNCTIONS:
        return _FUNCTIONS[kind](key)
    if kind is bytes:
        return b"b" + key
    if kind is tuple:
        items = [_canonical(item) for item in key]
        return b"t" + b"".join(struct.pack("<I", len(item)) + item for item in items)
    if key is None:
        return b"n"
    return key_of(key)


def _int(key):
    if -(2**63) <= key < 2**63:
        return b"i" + struct.pack("<q", key)
    return b"xi" + key.to_bytes(key.bit_length() // 8 + 1, "little", signed=True)


def _float(key):
    if key.is_integer():
        return _int(int(key))
    if key != key:
        return b"f" + struct.pack("<d", float("nan"))
    return b"f" + struct.pack("<d", key)


def _ratio(key):
    """Returns the bytes of a number that may be a float or not."""
    try:
        number = fractions.Fraction(key)
    except (ValueError, OverflowError):  # a Decimal that is no number, or infinite
        return _float(float(key))
    if number.denominator == 1:
        return _int(number.numerator)
    try:
        if (near := float(number)) == number:
            return _float(near)
    except OverflowError:
        pass
    return b"xq" + f"{number.numerator}/{number.denominator}".encode()


def _complex(key):
    if key.imag == 0:
        return _float(key.real)
    return b"xc" + struct.pack("<dd", key.real + 0.0, key.imag + 0.0)


def _frozenset(key):
    items = sorted(map(_canonical, key))
    return b"xz" + b"".join(struct.pack("<I", len(item)) + item for item in items)


def _range(key):
    return b"xr" + repr((len(key), *key[:1], *([key.step] if len(key) > 1 else []))).encode()


class _ByState(pickle.Pickler):
    """Pickles without regard to whether equal parts are one object."""

    def __init__(self, buffer):
        super().__init__(buffer, 4)
        self.fast = True

    def reducer_override(self, obj):
        if type(obj) in (frozenset, set):  # whose order differs from process to process
            return frozenset, (tuple(sorted(map(_canonical, obj))),)
        return NotImplemented


def _state(key):
    buffer = io.BytesIO()
    _ByState(buffer).dump(key)
    return b"xp" + buffer.getvalue()


_FUNCTIONS = {
    int: _int,
    bool: _int,
    float: _float,
    str: lambda key: b"s" + key.encode("utf-8", "surrogatepass"),
    decimal.Decimal: _ratio,
    fractions.Fraction: _ratio,
    complex: _complex,
    frozenset: _frozenset,
    range: _range,
}
