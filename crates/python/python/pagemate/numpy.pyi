from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy
from numpy.typing import ArrayLike, DTypeLike

__all__ = ["SharedArray", "array", "full", "ones", "zeros"]

_Shape: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...]
_Order: TypeAlias = Literal["C", "F"]

class SharedArray(numpy.ndarray[Any, Any]):
    def __new__(cls, shape: _Shape, dtype: DTypeLike = ..., order: _Order = "C") -> SharedArray: ...

def zeros(shape: _Shape, dtype: DTypeLike = ..., order: _Order = "C") -> SharedArray: ...
def ones(shape: _Shape, dtype: DTypeLike = ..., order: _Order = "C") -> SharedArray: ...
def full(
    shape: _Shape, value: Any, dtype: DTypeLike | None = None, order: _Order = "C"
) -> SharedArray: ...
def array(source: ArrayLike, dtype: DTypeLike | None = None) -> SharedArray: ...
