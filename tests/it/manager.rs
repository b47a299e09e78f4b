//! Managers: references to the objects in them, and names that are removed while the objects are in
//! use.

use pagemate::collections::Ref;
use pagemate::{
    Array, Dict, ErrorKind, Event, Kind, List, Manager, Namespace, Origin, Process, Schema, Value,
};
use pagemate::{Message, Place};

type Scores = Dict<str, u64>;

#[test]
fn a_dict_of_dicts_between_processes() {
    let manager = Manager::new().unwrap();
    let all = manager.dict::<str, Ref<Scores>>("all").unwrap();
    let body = |manager: Manager| {
        let all = manager.dict::<str, Ref<Scores>>("all").unwrap();
        for name in ["ada", "grace"] {
            let inner = Scores::create(manager.unnamed()).unwrap();
            inner.insert(name, &(name.len() as u64)).unwrap();
            assert!(all.insert(name, &Ref::to(&inner)).unwrap());
        }
    };
    Process::spawn(body, manager.clone()).unwrap().join().unwrap();
    for name in ["ada", "grace"] {
        let inner = manager.get(all.get(name).unwrap().unwrap()).unwrap();
        assert_eq!(inner.get(name).unwrap(), Some(name.len() as u64));
        assert_eq!(inner.len().unwrap(), 1);
    }
    // Objects without a name are not listed.
    assert_eq!(manager.objects().unwrap().len(), 1);
}

#[test]
fn references_to_each_type() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<[u8]>("list").unwrap();
    list.push([1, 2]).unwrap();
    let value = manager.value("value", 7u32).unwrap();
    let array = manager.array("array", 3, 0.5f32).unwrap();
    let space = manager.namespace("space").unwrap();
    space.set("x", &1u8).unwrap();
    // A list of references, and one in a value.
    let lists = List::<Ref<List<[u8]>>>::create(manager.unnamed()).unwrap();
    lists.push(Ref::to(&list)).unwrap();
    let held = Value::create(manager.at("held"), Ref::to(&lists)).unwrap();
    let lists = manager.get(held.get().unwrap()).unwrap();
    assert_eq!(manager.get(lists.get(0).unwrap().unwrap()).unwrap().to_vec().unwrap(), [[1, 2]]);
    assert_eq!(manager.get(Ref::to(&value)).unwrap().get(), Ok(7));
    assert_eq!(manager.get(Ref::to(&array)).unwrap().get(2).unwrap(), Some(0.5));
    assert_eq!(manager.get(Ref::to(&space)).unwrap().get::<u8>("x").unwrap(), Some(1));
    assert_eq!(Ref::to(&list), Ref::to(&manager.list::<[u8]>("list").unwrap()));
    let texts = [
        <Ref<List<[u8]>>>::schema(),
        <Ref<Scores>>::schema(),
        <Ref<Array<f32>>>::schema(),
        <Ref<Namespace>>::schema(),
    ];
    for (schema, name) in texts.iter().zip(["List<bytes>", "Dict<str, u64>", "Array<f32>", "Namespace"]) {
        let text = schema.to_string();
        assert!(text.starts_with(&format!("struct Ref<{name}> size 16 align 8")), "{text}");
        assert_eq!(&text.parse::<Schema>().unwrap(), schema);
    }
}

/// Returns the same two words as a reference of another type.
fn transmuted<A: Message, B: Message>(reference: A) -> B {
    assert_eq!((size_of::<A>(), size_of::<B>()), (16, 16));
    // SAFETY: both have 16 bytes without padding, and any bytes are a reference.
    unsafe { std::mem::transmute_copy(&reference) }
}

#[test]
fn wrong_references_are_errors() {
    let manager = Manager::new().unwrap();
    let other = Manager::new().unwrap();
    let list = manager.list::<u64>("list").unwrap();
    let reference = Ref::to(&list);
    let kind = |found: pagemate::Result<List<u64>>| found.unwrap_err().kind();
    assert_eq!(kind(other.get(reference)), ErrorKind::InvalidInput);
    assert_eq!(kind(manager.get(transmuted([0u64; 2]))), ErrorKind::NotFound);
    let [segment, record] = transmuted::<_, [u64; 2]>(reference);
    for wrong in [0, 1, record - 128, record + 1, record + 128, 1 << 37, u64::MAX] {
        assert_eq!(kind(manager.get(transmuted([segment, wrong]))), ErrorKind::Corrupted, "{wrong}");
    }
    assert_eq!(kind(manager.get(transmuted([segment + 1, record]))), ErrorKind::InvalidInput);
    let error = manager.get(transmuted::<_, Ref<List<u32>>>(reference)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("u64") && error.to_string().contains("u32"), "{error}");
    let error = manager.get(transmuted::<_, Ref<Scores>>(reference)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(
        manager.discard(transmuted::<_, Ref<Scores>>(reference)).unwrap_err().kind(),
        ErrorKind::TypeMismatch
    );
    assert_eq!(manager.get(reference).unwrap().len().unwrap(), 0);
}

#[test]
fn a_name_is_removed_and_given_again() {
    let manager = Manager::new().unwrap();
    let old = manager.dict::<u64, u64>("d").unwrap();
    old.insert(&1, &10).unwrap();
    let reference = Ref::to(&old);
    manager.remove("d").unwrap();
    assert_eq!(manager.remove("d").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(manager.remove("a/b").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(manager.remove("/heap/0").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(manager.get(reference).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(manager.objects().unwrap().is_empty());
    // An object of another type may get the name. The old one goes on, also in a child that gets it
    // now.
    let (event, origin) = Event::open_or_create(manager.at("d")).unwrap();
    assert_eq!(origin, Origin::Created);
    let child = |(old, event): (Dict<u64, u64>, Event)| {
        old.insert(&2, &20).unwrap();
        event.set();
    };
    Process::spawn(child, (old.clone(), event.clone())).unwrap().join().unwrap();
    assert!(event.is_set());
    assert_eq!((old.get(&1).unwrap(), old.get(&2).unwrap()), (Some(10), Some(20)));
    let listed = manager.objects().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].kind), (1, "d", Some(Kind::Event)));
    // The lock of a dead holder comes back, even if the object was removed.
    let lock = manager.lock("lock").unwrap();
    manager.remove("lock").unwrap();
    let dies = |lock: pagemate::Lock| -> u8 {
        std::mem::forget(lock.lock());
        std::process::abort();
    };
    assert!(Process::spawn(dies, lock.clone()).unwrap().join().is_err());
    assert!(lock.lock_timeout(std::time::Duration::from_secs(60)).is_ok());
}

#[test]
fn many_processes_create_and_remove_one_name() {
    const ROUNDS: u64 = 200;
    let name = format!("test-manager-remove-{}", std::process::id());
    let manager = Manager::create(Place::from(name).reserve(1 << 28)).unwrap();
    let body = |(manager, me): (Manager, u64)| {
        let mut removed = 0u64;
        for round in 0..ROUNDS {
            let list = manager.list::<u64>("name").unwrap();
            list.push(me * ROUNDS + round).unwrap();
            match manager.remove("name") {
                Ok(()) => removed += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            }
        }
        removed
    };
    let children = [0, 1, 2].map(|me| Process::spawn(body, (manager.clone(), me)).unwrap());
    let removed: u64 = children.into_iter().map(|child| child.join().unwrap()).sum();
    assert!((1..=3 * ROUNDS).contains(&removed), "{removed}");
    let segment = manager.segment().objects().unwrap();
    assert!(segment.iter().filter(|object| object.name == "name").count() <= 1);
    // Each created object was removed once, except the last one, which may be left.
    let left = u64::from(manager.remove("name").is_ok());
    println!("{removed} removed, {left} left");
    assert_eq!(manager.list::<u64>("name").unwrap().len().unwrap(), 0);
}
