//! `Manager().dict()`: any keys and values, in the order of insertion.
//!
//! An entry of the core's dict has the canonical bytes of the key ([`super::key`]), and these bytes
//! as its value:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | its number in the order of insertion |
//! | then | an item ([`crate::codec`]): the key, if the canonical bytes do not lead back to it |
//! | then | an item: the value |
//!
//! # Death
//!
//! Each method changes one entry at a time, by one atomic step of the core's dict. So a process that
//! dies in a method leaves the dict as before or as after, and one that dies in `update` or `clear`
//! leaves it as after a part of it.

use pagemate::Dict;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyDictMethods, PyList, PyTuple};

use crate::codec::{damaged, Reader, ELSEWHERE};
use crate::error::raise;
use crate::manager::key;
use crate::manager::memory::ManagerMemory;
use crate::manager::value::{encode, links, write, Read, Timed};

/// A dict in the memory of a manager.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct ManagedDict {
    dict: Timed<Dict<[u8], [u8]>>,
    memory: Py<ManagerMemory>,
}

/// A key as bytes, and the item that leads back to it.
struct Key {
    bytes: Vec<u8>,
    item: Vec<u8>,
}

/// An entry, with its number in the order of insertion.
struct Entry<'py> {
    number: u64,
    key: Read<'py>,
    value: Read<'py>,
}

#[pymethods]
impl ManagedDict {
    /// Opens or creates the dict of this name in the memory.
    #[new]
    #[pyo3(signature = (memory, name, create))]
    fn new(memory: &Bound<'_, ManagerMemory>, name: &str, create: bool) -> PyResult<ManagedDict> {
        let place = memory.get().segment().at(name);
        let dict = if create { Dict::create(place) } else { Dict::open(place) };
        Ok(ManagedDict { dict: Timed::of_dict(dict.map_err(raise)?), memory: memory.clone().unbind() })
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.find(key)?.ok_or_else(|| no_key(key))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = self.key(key)?;
        self.put(&bytes, key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = self.key(key)?.0;
        let removed = write(key.py(), &self.dict, |dict| Ok(dict.remove(&bytes)?.is_some()))?;
        if removed { Ok(()) } else { Err(no_key(key)) }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (bytes, _) = self.key(key)?;
        self.dict.quick.contains_key(&bytes[..]).map_err(raise)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.memory(py).check()?;
        write(py, &self.dict, Dict::len)
    }

    /// Returns an iterator over the keys that are there now.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.keys(py)?.try_iter()?.into_any())
    }

    #[pyo3(signature = (key, default = None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(key)?.or(default))
    }

    /// Removes a key and returns its value.
    #[pyo3(signature = (key, *default))]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            let text = format!("pop expected at most 2 arguments, got {}", default.len() + 1);
            return Err(PyTypeError::new_err(text));
        }
        let (py, bytes) = (key.py(), self.key(key)?.0);
        match write(py, &self.dict, |dict| dict.remove(&bytes))? {
            Some(stored) => self.entry(py, &bytes, &stored)?.value.load(self.memory(py).tools()),
            None => default.get_item(0).map_err(|_| no_key(key)),
        }
    }

    /// Removes the entry that was inserted last, and returns it.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        self.memory(py).check()?;
        loop {
            let Some((_, bytes)) = self.numbers()?.into_iter().max() else {
                return Err(PyKeyError::new_err("popitem(): dictionary is empty"));
            };
            if let Some(stored) = write(py, &self.dict, |dict| dict.remove(&bytes))? {
                let Entry { key, value, .. } = self.entry(py, &bytes, &stored)?;
                let tools = self.memory(py).tools();
                return Ok((key.load(tools)?, value.load(tools)?));
            }
        }
    }

    /// Returns the value of a key, and inserts the default if it has none.
    #[pyo3(signature = (key, default = None, /))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let (bytes, is_exact) = self.key(key)?;
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        if let Some(value) = self.find_bytes(py, &bytes)? {
            return Ok(value);
        }
        let number = self.memory(py).next();
        let new = self.stored(number, key, is_exact, &default)?;
        let exchange = |dict: &Dict<[u8], [u8]>| dict.compare_exchange(&bytes, None, Some(&new));
        match write(py, &self.dict, exchange)? {
            Err(Some(found)) => self.entry(py, &bytes, &found)?.value.load(self.memory(py).tools()),
            _ => Ok(default),
        }
    }

    /// Inserts the entries of another dict, or pairs, and then the keywords.
    #[pyo3(signature = (other = None, /, **keywords))]
    fn update(&self, other: Option<&Bound<'_, PyAny>>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        if let Some(other) = other {
            let all = PyDict::new(other.py());
            all.call_method1("update", (other,))?;
            self.put_all(&all)?;
        }
        keywords.map_or(Ok(()), |keywords| self.put_all(keywords))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.memory(py).check()?;
        write(py, &self.dict, Dict::clear)
    }

    /// Returns the keys, as a list.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.entries(py, |key, _| Ok(key))?)
    }

    /// Returns the values, as a list.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.entries(py, |_, value| Ok(value))?)
    }

    /// Returns pairs of key and value, as a list.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let tools = self.memory(py).tools();
        let pairs = self.entries(py, |key, value| Ok((key, value)))?;
        let pairs: PyResult<Vec<_>> =
            pairs.into_iter().map(|(key, value)| Ok((key.load(tools)?, value.load(tools)?))).collect();
        PyList::new(py, pairs?)
    }

    /// Returns a copy, as a `dict` of this process.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let copy = PyDict::new(py);
        for (key, value) in self.items(py)?.extract::<Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>>()? {
            copy.set_item(key, value)?;
        }
        Ok(copy)
    }

    /// Returns the ids of the managed objects whose proxies are in it.
    fn _links(&self) -> PyResult<Vec<u64>> {
        let mut found = Vec::new();
        for value in self.dict.quick.values() {
            let value = value.map_err(raise)?;
            let mut reader = Reader(value.get(8..).unwrap_or_default());
            links(Reader(reader.0), &mut found);
            if reader.skip(0).is_some() {
                links(reader, &mut found);
            }
        }
        Ok(found)
    }
}

#[cold]
fn no_key(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err(key.clone().unbind())
}

impl ManagedDict {
    fn memory<'a>(&'a self, py: Python<'a>) -> &'a ManagerMemory {
        self.memory.bind(py).get()
    }

    /// Returns the canonical bytes of a key, and whether they lead back to it.
    fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<(Vec<u8>, bool)> {
        let memory = self.memory(key.py());
        memory.check()?;
        let mut bytes = Vec::with_capacity(32);
        let is_exact = key::encode(key, &mut bytes, &memory.tools().key_of)?;
        Ok((bytes, is_exact))
    }

    fn find<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (bytes, _) = self.key(key)?;
        self.find_bytes(key.py(), &bytes)
    }

    fn find_bytes<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read = |stored: &[u8]| {
            let mut reader = Reader(stored.get(8..).unwrap_or_default());
            reader.skip(0).ok_or_else(damaged)?;
            Read::of(py, &mut reader)
        };
        match self.dict.quick.get_with(bytes, read).map_err(raise)? {
            Some(value) => value?.load(self.memory(py).tools()).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the bytes of an entry.
    fn stored(
        &self,
        number: u64,
        key: &Bound<'_, PyAny>,
        is_exact: bool,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<u8>> {
        let tools = self.memory(key.py()).tools();
        let mut stored = Vec::with_capacity(64);
        stored.extend_from_slice(&number.to_le_bytes());
        if is_exact {
            stored.push(ELSEWHERE);
        } else {
            encode(key, &mut stored, tools)?;
        }
        encode(value, &mut stored, tools)?;
        Ok(stored)
    }

    /// Sets a value. The key keeps its place in the order, and stays the object that it was, if it
    /// is there.
    fn put(
        &self,
        (bytes, is_exact): &(Vec<u8>, bool),
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = key.py();
        // If others remove the key or insert it meanwhile, only the order and the object of equal
        // keys depend on who is quicker.
        let mut before = None;
        let read = |stored: &[u8]| before = head(stored).map(<[u8]>::to_vec);
        self.dict.quick.get_with(bytes, read).map_err(raise)?;
        let new = match before {
            Some(mut stored) => {
                encode(value, &mut stored, self.memory(py).tools())?;
                stored
            }
            None => self.stored(self.memory(py).next(), key, *is_exact, value)?,
        };
        write(py, &self.dict, |dict| dict.insert(bytes, &new).map(drop))
    }

    fn put_all(&self, entries: &Bound<'_, PyDict>) -> PyResult<()> {
        entries.iter().try_for_each(|(key, value)| self.__setitem__(&key, &value))
    }

    /// Returns the number and the key's bytes of all entries.
    fn numbers(&self) -> PyResult<Vec<(u64, Vec<u8>)>> {
        let number = |stored: Vec<u8>| stored.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        let entries = self.dict.quick.iter();
        entries.map(|entry| entry.map(|(key, stored)| (number(stored), key)).map_err(raise)).collect()
    }

    fn entry<'py>(&self, py: Python<'py>, bytes: &[u8], stored: &[u8]) -> PyResult<Entry<'py>> {
        let mut reader = Reader(stored);
        let number = u64::from_le_bytes(reader.array().ok_or_else(damaged)?);
        let key = match reader.0.first() {
            Some(&ELSEWHERE) => {
                reader.byte();
                Read::Plain(key::decode(py, bytes)?)
            }
            _ => Read::of(py, &mut reader)?,
        };
        Ok(Entry { number, key, value: Read::of(py, &mut reader)? })
    }

    /// Returns something of all entries, in the order of insertion.
    fn entries<'py, R>(
        &self,
        py: Python<'py>,
        pick: impl Fn(Read<'py>, Read<'py>) -> PyResult<R>,
    ) -> PyResult<Vec<R>> {
        self.memory(py).check()?;
        let mut entries = Vec::new();
        for entry in self.dict.quick.iter() {
            let (bytes, stored) = entry.map_err(raise)?;
            entries.push(self.entry(py, &bytes, &stored)?);
        }
        entries.sort_unstable_by_key(|entry| entry.number);
        entries.into_iter().map(|entry| pick(entry.key, entry.value)).collect()
    }
}

/// Returns the bytes of an entry without its value.
fn head(stored: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(stored.get(8..)?);
    reader.skip(0)?;
    Some(&stored[..stored.len() - reader.0.len()])
}
