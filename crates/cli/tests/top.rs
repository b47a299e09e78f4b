//! `top`: one sample of all segments, for people and for scripts.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::OnceLock;

use common::{directory, eventually, json, printed, refused, run, Running};
use pagemate::queue::spsc;
use pagemate::{Event, Mutex, Place, Pool, Queue, Segment, Topic};
use rustix::process::Signal;
use serde_json::{json, Value};

pagemate::init_tests!();

fn row<'a>(rows: &'a Value, name: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {rows:#}"))
}

#[test]
fn depths_rates_and_holders() {
    let dir = directory();
    let place = |name| Place::in_dir(dir.path(), name);
    let busy = Queue::<u64>::create(place("busy"), 4).unwrap();
    let idle = Queue::<u64>::create(place("idle"), 8).unwrap();
    (0..3).for_each(|n| idle.try_send(n).unwrap());
    let segment = Segment::create(place("locks"), 1 << 20).unwrap();
    let (held, free) =
        (Mutex::create(segment.at("held"), 0_u8).unwrap(), Mutex::create(segment.at("free"), 0_u8).unwrap());
    let guard = held.lock().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                busy.try_send(1).unwrap();
                assert_eq!(busy.try_recv(), Ok(1));
            }
        });
        let mut seen = Value::Null;
        eventually("messages are received", || {
            seen = json(dir.path(), &["top", "--once", "--interval", "0.05"]);
            row(&seen["queues"], "busy")["received_per_second"].as_f64().unwrap() > 0.0
        });
        let text = printed(dir.path(), &["top", "--once", "--interval", "0.05"]);
        over.store(true, Relaxed);

        let idle = row(&seen["queues"], "idle");
        assert_eq!(
            (&idle["depth"], &idle["capacity"], &idle["received_per_second"], &idle["closed"]),
            (&json!(3), &json!(8), &json!(0.0), &json!(false))
        );
        assert_eq!(row(&seen["locks"], "locks/held")["holder"], std::process::id());
        assert!(row(&seen["locks"], "locks/free")["holder"].is_null());
        assert_eq!(row(&seen["segments"], "locks")["alive"], 1);
        for head in ["SEGMENT", "QUEUE", "LOCK"] {
            assert!(text.lines().any(|line| line.starts_with(head)), "{text}");
        }
    });
    drop((guard, free));
}

#[test]
fn quotas_of_messages_of_any_length() {
    let dir = directory();
    let place = |name| Place::in_dir(dir.path(), name);
    let queue = Queue::<[u8]>::builder(8).quota(1 << 18).create(place("queue")).unwrap();
    let topic = Topic::<str>::builder(8).quota(1 << 18).create(place("topic")).unwrap();
    let mut ring = spsc::builder::<[u8]>(8).quota(1 << 18).create_producer(place("ring")).unwrap();
    let _fixed = Queue::<u64>::create(place("fixed"), 8).unwrap();
    let _empty = Queue::<str>::builder(8).quota(0).create(place("empty")).unwrap();
    let look = || json(dir.path(), &["top", "--once", "--interval", "0.01"]);
    assert_eq!(
        row(&look()["queues"], "queue")["quota"],
        json!({ "bytes": 1 << 18, "in_use": 0, "percent": 0.0 })
    );

    queue.send(&[1; 100_000]).unwrap();
    topic.publisher().publish(&"x".repeat(100_000)).unwrap();
    ring.send(&[1; 100_000]).unwrap();
    ring.send(&[1]).unwrap(); // in its slot
    let seen = look();
    for (table, name) in [("queues", "queue"), ("topics", "topic"), ("queues", "ring")] {
        let quota = &row(&seen[table], name)["quota"];
        let in_use = quota["in_use"].as_u64().unwrap();
        assert!((100_000..132_000).contains(&in_use), "{name}: {quota}");
        assert_eq!(quota["percent"], json!(100.0 * in_use as f64 / f64::from(1 << 18)));
    }
    assert!(row(&seen["queues"], "fixed")["quota"].is_null(), "messages of a fixed size have none");
    assert_eq!(row(&seen["queues"], "empty")["quota"], json!({ "bytes": 0, "in_use": 0, "percent": 0.0 }));
    let text = printed(dir.path(), &["top", "--once", "--interval", "0.01"]);
    let percent = |name| {
        let line = text.lines().rfind(|line| line.starts_with(name)).unwrap(); // the first is the segment's
        let cell = line.split_whitespace().find(|cell| cell.ends_with('%')).unwrap();
        cell.trim_end_matches('%').parse::<u32>().unwrap()
    };
    assert!(["queue ", "topic ", "ring "].iter().all(|name| (38..=50).contains(&percent(name))), "{text}");
    assert_eq!(text.matches("QUOTA IN USE").count(), 2, "{text}");
}

#[test]
fn shows_the_workers_and_tasks_of_a_pool() {
    static GATE: OnceLock<Event> = OnceLock::new();
    let gate = Event::new().unwrap();
    let name = format!("test-top-pool-{}", std::process::id());
    // Named pools are in the default directory, with the segments of others.
    let dir = Path::new("/dev/shm");
    let keep = |gate| drop(GATE.set(gate));
    let pool = Pool::builder().workers(2).name(&name).initializer(keep, gate.clone()).build().unwrap();
    let pool_row = || row(&json(dir, &["top", "--once", "--interval", "0.05"])["pools"], &name).clone();

    pool.map(|n: u64| n, 0..10).unwrap();
    let wait = |()| GATE.get().unwrap().wait();
    let tasks: Vec<_> = (0..5).map(|_| pool.apply_async(wait, ()).unwrap()).collect();
    let expected = json!({
        "name": &name, "workers": 2, "busy": 2, "queued": 3, "tasks_done": 10, "tasks_per_second": 0.0,
        "closed": false,
    });
    // A worker may still be busy with the end of `map`, so the number of busy ones is not enough.
    eventually("both workers wait in a task", || pool_row() == expected);
    let text = printed(dir, &["top", "--once", "--interval", "0.05"]);
    let mut pools = text.lines().skip_while(|line| !line.starts_with("POOL "));
    let line = pools.find(|line| line.starts_with(&name)).unwrap();
    assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["2", "2", "3", "10", "0"], "{text}");

    gate.set();
    assert!(tasks.into_iter().all(|task| task.get().unwrap()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                pool.map(|n: u64| n, 0..100).unwrap();
            }
        });
        eventually("tasks are done", || pool_row()["tasks_per_second"].as_f64().unwrap() > 0.0);
        over.store(true, Relaxed);
    });
    pool.close();
    pool.join().unwrap();
    let end = pool_row();
    assert_eq!((&end["busy"], &end["queued"], &end["closed"]), (&json!(0), &json!(0), &json!(true)));
    assert!(end["tasks_done"].as_u64().unwrap() >= 115, "{end}");
    drop(pool);
    assert!(!dir.join(format!("pagemate.{name}")).exists());
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = directory();
    std::fs::write(dir.path().join("pagemate.odd"), b"not a segment").unwrap();
    let seen = json(dir.path(), &["top", "--once", "--interval", "0.01"]);
    assert!(row(&seen["segments"], "odd")["error"].is_string(), "{seen:#}");
    let text = printed(dir.path(), &["top", "--once", "--interval", "0.01"]);
    assert!(text.contains("\nodd: cannot be read: "), "{text}");
}

#[test]
fn a_signal_ends_it_at_once() {
    let dir = directory();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let top = Running::start(dir.path(), &["top", "--once", "--interval", "86400"]);
        top.wait_for_handler(signal);
        top.signal(signal);
        let output = top.end();
        assert_eq!((output.status.signal(), output.stderr.len()), (Some(signal.as_raw()), 0));
    }
}

#[test]
fn wrong_usage_is_refused() {
    let dir = directory();
    assert!(refused(dir.path(), &["top"]).contains("--once"), "standard output is no terminal");
    for wrong in [&["top", "--json"][..], &["top", "--once", "--interval", "0"], &["top", "--interval", "x"]]
    {
        assert_eq!(run(dir.path(), wrong).status.code(), Some(2), "usage");
    }
}
