//! `Manager().list()`: any values.
//!
//! Each element of the core's list is an item ([`crate::codec`]). Changes that depend on comparisons
//! of values are computed from a copy, and then made in one step if the list is still the same.
//!
//! # Death
//!
//! Each method is one atomic step of the core's list. A process that dies in it leaves the list as
//! before or as after.

use std::collections::HashMap;

use pagemate::List;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice};

use crate::codec::Reader;
use crate::error::raise;
use crate::manager::memory::ManagerMemory;
use crate::manager::value::{decode, encode, links, write, Timed};

/// A list in the memory of a manager.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct ManagedList {
    list: Timed<List<[u8]>>,
    memory: Py<ManagerMemory>,
}

type Items = Vec<Vec<u8>>;

#[pymethods]
impl ManagedList {
    /// Opens or creates the list of this name in the memory.
    #[new]
    #[pyo3(signature = (memory, name, create))]
    fn new(memory: &Bound<'_, ManagerMemory>, name: &str, create: bool) -> PyResult<ManagedList> {
        let place = memory.get().segment().at(name);
        let list = if create { List::create(place) } else { List::open(place) };
        Ok(ManagedList { list: Timed::of_list(list.map_err(raise)?), memory: memory.clone().unbind() })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.memory(py).check()?;
        self.list.quick.len().map_err(raise)
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if let Ok(slice) = index.cast::<PySlice>() {
            return self.copy(py)?.as_any().get_item(slice);
        }
        let item = match self.index(index)? {
            Some(at) => self.list.quick.get(at).map_err(raise)?,
            None => None,
        };
        let item = item.ok_or_else(|| PyIndexError::new_err("list index out of range"))?;
        decode(py, &item, self.memory(py).tools())
    }

    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if index.cast::<PySlice>().is_ok() {
            return self.change(index.py(), |list| list.as_any().set_item(index, value));
        }
        let missing = || PyIndexError::new_err("list assignment index out of range");
        let (at, item) = (self.index(index)?.ok_or_else(missing)?, self.item(value)?);
        let set = |list: &List<[u8]>| {
            // The list may have become shorter.
            if at < list.len()? { list.set(at, &item[..]).map(|()| true) } else { Ok(false) }
        };
        if write(index.py(), &self.list, set)? { Ok(()) } else { Err(missing()) }
    }

    fn __delitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if index.cast::<PySlice>().is_ok() {
            return self.change(index.py(), |list| list.as_any().del_item(index));
        }
        let missing = || PyIndexError::new_err("list assignment index out of range");
        let at = self.index(index)?.ok_or_else(missing)?;
        write(index.py(), &self.list, |list| list.remove(at))?.map(drop).ok_or_else(missing)
    }

    fn append(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let item = self.item(value)?;
        write(value.py(), &self.list, |list| list.push(&item[..]))
    }

    fn extend(&self, values: &Bound<'_, PyAny>) -> PyResult<()> {
        self.memory(values.py()).check()?;
        let items: PyResult<Items> = values.try_iter()?.map(|value| self.item(&value?)).collect();
        let items = items?;
        write(values.py(), &self.list, |list| list.extend(items.iter().map(Vec::as_slice)))
    }

    #[pyo3(signature = (index = None, /))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        index: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.memory(py).check()?;
        let item = match index {
            None => write(py, &self.list, List::pop)?,
            Some(index) => match self.index(index)? {
                Some(at) => write(py, &self.list, |list| list.remove(at))?,
                None => None,
            },
        };
        if let Some(item) = item {
            return decode(py, &item, self.memory(py).tools());
        }
        let is_empty = self.list.quick.is_empty().map_err(raise)?;
        Err(PyIndexError::new_err(if is_empty { "pop from empty list" } else { "pop index out of range" }))
    }

    fn insert(&self, index: isize, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let item = self.item(value)?;
        let insert = |list: &List<[u8]>| {
            let len = list.len()?;
            let at = if index < 0 { len.saturating_sub(index.unsigned_abs()) } else { len.min(index as usize) };
            list.insert(at, &item[..])
        };
        write(value.py(), &self.list, insert)
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.memory(py).check()?;
        write(py, &self.list, List::clear)
    }

    /// Returns a copy, as a `list` of this process.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.memory(py).check()?;
        self.decoded(py, &self.snapshot(py)?)
    }

    /// Replaces the contents by what `change` makes of a list of them, if they are still the same.
    /// Otherwise it is called again.
    fn _change(&self, change: &Bound<'_, PyAny>) -> PyResult<()> {
        self.change(change.py(), |list| change.call1((list,)).map(drop))
    }

    /// Returns the ids of the managed objects whose proxies are in it.
    fn _links(&self) -> PyResult<Vec<u64>> {
        let mut found = Vec::new();
        for item in self.list.quick.iter() {
            links(Reader(&item.map_err(raise)?), &mut found);
        }
        Ok(found)
    }
}

impl ManagedList {
    fn memory<'a>(&'a self, py: Python<'a>) -> &'a ManagerMemory {
        self.memory.bind(py).get()
    }

    fn item(&self, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let memory = self.memory(value.py());
        memory.check()?;
        let mut item = Vec::with_capacity(32);
        encode(value, &mut item, memory.tools())?;
        Ok(item)
    }

    /// Returns the index from the start; `None` if it is before the start.
    fn index(&self, index: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        self.memory(index.py()).check()?;
        let index = index.extract::<isize>()?;
        if index >= 0 {
            return Ok(Some(index as usize));
        }
        Ok(self.list.quick.len().map_err(raise)?.checked_sub(index.unsigned_abs()))
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<Items> {
        write(py, &self.list, List::snapshot)
    }

    fn decoded<'py>(&self, py: Python<'py>, items: &Items) -> PyResult<Bound<'py, PyList>> {
        let tools = self.memory(py).tools();
        let values: PyResult<Vec<_>> = items.iter().map(|item| decode(py, item, tools)).collect();
        PyList::new(py, values?)
    }

    /// As `_change`.
    fn change<'py>(
        &self,
        py: Python<'py>,
        change: impl Fn(&Bound<'py, PyList>) -> PyResult<()>,
    ) -> PyResult<()> {
        self.memory(py).check()?;
        loop {
            let before = self.snapshot(py)?;
            let list = self.decoded(py, &before)?;
            // Values that are only moved keep their bytes. They stay alive meanwhile, so that no
            // other object has the address of one of them.
            let values: Vec<_> = list.iter().collect();
            let known: HashMap<_, _> = values.iter().map(|value| value.as_ptr()).zip(&before).collect();
            change(&list)?;
            let item = |value: Bound<'_, PyAny>| match known.get(&value.as_ptr()) {
                Some(item) => Ok(item.to_vec()),
                None => self.item(&value),
            };
            let after = list.iter().map(item).collect::<PyResult<Items>>()?;
            if write(py, &self.list, |list| list.compare_exchange_all(&before, &after))? {
                return Ok(());
            }
        }
    }
}
