//! Bytes between Python and Rust, by the buffer protocol: those of an object, and an object over
//! memory that belongs to Rust.
//!
//! The protocol is in the stable ABI since CPython 3.11. In 3.10 it is the same, but was not
//! promised yet. So that one wheel serves all, what is needed of it is declared here.

use std::any::Any;
use std::ffi::{c_char, c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{null, null_mut, NonNull};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// `PyBUF_ANY_CONTIGUOUS`: bytes without gaps, whatever the order of the dimensions is.
const CONTIGUOUS: c_int = 0x98;

/// `Py_buffer`.
#[repr(C)]
pub(crate) struct View {
    buf: *mut c_void,
    obj: *mut ffi::PyObject,
    len: isize,
    itemsize: isize,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut isize,
    strides: *mut isize,
    suboffsets: *mut isize,
    internal: *mut c_void,
}

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut ffi::PyObject, view: *mut View, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut View);
    fn PyBuffer_FillInfo(
        view: *mut View,
        object: *mut ffi::PyObject,
        bytes: *mut c_void,
        len: isize,
        readonly: c_int,
        flags: c_int,
    ) -> c_int;
}

/// The bytes of an object, which cannot move or go away meanwhile.
pub(crate) enum Bytes<'py> {
    Bytes(Bound<'py, PyBytes>),
    /// In a box, because it may point into itself.
    Other(Box<View>, Python<'py>),
}

impl<'py> Bytes<'py> {
    /// Borrows the bytes of an object. They must not have gaps.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Bytes<'py>> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Bytes::Bytes(bytes.clone()));
        }
        let mut view = Box::new(View {
            buf: null_mut(),
            obj: null_mut(),
            len: 0,
            itemsize: 0,
            readonly: 0,
            ndim: 0,
            format: null_mut(),
            shape: null_mut(),
            strides: null_mut(),
            suboffsets: null_mut(),
            internal: null_mut(),
        });
        // SAFETY: the object is alive, and the view has the layout of Py_buffer and does not move.
        let status = unsafe { PyObject_GetBuffer(object.as_ptr(), &mut *view, CONTIGUOUS) };
        if status != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Bytes::Other(view, object.py()))
    }

    /// Returns the bytes. Python code may write there at the same time, so they are only for
    /// copying.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Bytes(bytes) => bytes.as_bytes(),
            Bytes::Other(view, _) if view.len == 0 => &[],
            // SAFETY: the view is of so many bytes without gaps, and is held. Whatever they are,
            // they are valid as bytes.
            Bytes::Other(view, _) => unsafe {
                std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize)
            },
        }
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        if let Bytes::Other(view, _) = self {
            // SAFETY: PyObject_GetBuffer has filled it, and the token shows that the interpreter is
            // there.
            unsafe { PyBuffer_Release(&mut **view) };
        }
    }
}

/// Creates bytes of this length, which `fill` writes. It may let other threads run, because nobody
/// else has them yet.
pub(crate) fn new_bytes<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: new bytes of that length, which are not initialised.
    let (bytes, content) = unsafe {
        let bytes = ffi::PyBytes_FromStringAndSize(null(), len as isize);
        let bytes = Bound::from_owned_ptr_or_err(py, bytes)?.cast_into_unchecked::<PyBytes>();
        let at = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<MaybeUninit<u8>>();
        (bytes, std::slice::from_raw_parts_mut(at, len))
    };
    fill(content)?;
    Ok(bytes)
}

/// What keeps memory: it is freed when this is dropped.
pub(crate) type Owner = Box<dyn Any + Send + Sync>;

/// An object of Python over memory of Rust, whose bytes do not change.
#[repr(C)]
struct Memory {
    base: ffi::PyObject,
    at: *const u8,
    len: usize,
    owner: ManuallyDrop<Owner>,
}

/// Returns a read-only memoryview. `owner` is dropped when nothing refers to it any more.
///
/// # Safety
///
/// `bytes` can be read, and do not change, as long as `owner` exists.
pub(crate) unsafe fn export(
    py: Python<'_>,
    bytes: NonNull<[u8]>,
    owner: Owner,
) -> PyResult<Bound<'_, PyAny>> {
    let class = memory_type(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the type is ready, and its instances are of the size of Memory. The fields behind the
    // base are written before anything else can see the object.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        let memory = object.cast::<Memory>();
        (&raw mut (*memory).at).write(bytes.as_ptr().cast());
        (&raw mut (*memory).len).write(bytes.len());
        (&raw mut (*memory).owner).write(ManuallyDrop::new(owner));
        let memory = Bound::from_owned_ptr(py, object);
        Bound::from_owned_ptr_or_err(py, ffi::PyMemoryView_FromObject(memory.as_ptr()))
    }
}

/// Returns the class of [`Memory`], which only [`export`] can instantiate.
fn memory_type(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = TYPE.get_or_try_init(py, || {
        let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_bf_getbuffer, get_buffer as *mut c_void),
            slot(0, null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"pagemate._pagemate.Memory".as_ptr(),
            basicsize: size_of::<Memory>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as _,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the spec and its slots are complete, and the functions have the types that these
        // slots need. All is copied.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec)).map(Bound::unbind) }
    })?;
    Ok(class.bind(py))
}

extern "C" fn get_buffer(object: *mut ffi::PyObject, view: *mut View, flags: c_int) -> c_int {
    // SAFETY: Python calls this with a Memory and a view to be filled. The fill takes a reference
    // to the object, and fails if the view is to be writable.
    unsafe {
        let memory = object.cast::<Memory>();
        let (at, len) = ((*memory).at, (*memory).len);
        PyBuffer_FillInfo(view, object, at.cast_mut().cast(), len as isize, 1, flags)
    }
}

extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: Python calls this once, when nothing refers to the object any more, which is a
    // Memory. Its type is on the heap, so the object has a reference to it.
    unsafe {
        let class = ffi::Py_TYPE(object);
        ManuallyDrop::drop(&mut (*object.cast::<Memory>()).owner);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DecRef(class.cast());
    }
}
