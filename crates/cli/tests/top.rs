//! `top`: one look at what goes on, for people and for scripts.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::{directory, json, printed, refused, run};
use pagemate::{Mutex, Place, Queue, Segment};
use serde_json::{json, Value};

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
        let seen = json(dir.path(), &["top", "--once", "--interval", "0.3"]);
        let text = printed(dir.path(), &["top", "--once", "--interval", "0.05"]);
        over.store(true, Relaxed);

        assert!(row(&seen["queues"], "busy")["received_per_second"].as_f64().unwrap() > 0.0, "{seen:#}");
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
fn what_is_refused() {
    let dir = directory();
    assert!(refused(dir.path(), &["top"]).contains("--once"), "standard output is no terminal");
    for wrong in [&["top", "--json"][..], &["top", "--once", "--interval", "0"], &["top", "--interval", "x"]]
    {
        assert_eq!(run(dir.path(), wrong).status.code(), Some(2), "usage");
    }
}
