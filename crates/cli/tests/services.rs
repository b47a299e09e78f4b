//! `call`, and what `show`, `ls` and `top` say about services.

mod common;


use common::{directory, eventually, json, printed, refused, Running};
use pagemate::{inspect, Manager, Message, Place, Service};
use rustix::process::Signal;
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u64)]
enum Method {
    Add,
    Divide,
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Request {
    method: Method,
    of: [f64; 2],
}

/// Returns a state of the service that has its segment's name.
fn state(dir: &std::path::Path, name: &str, label: &str) -> String {
    let seen = inspect::segment(Place::in_dir(dir, name)).unwrap();
    let (_, value) = seen.objects[0].state.iter().find(|(found, _)| *found == label).unwrap();
    value.clone()
}

#[test]
fn called_by_text() {
    let dir = directory();
    let path = dir.path();
    let service = Service::<Request, f64>::create(Place::in_dir(path, "calculator"), 4).unwrap();
    let server = service.server();
    let worker = std::thread::spawn(move || {
        let answer = |request: &Request| match (request.method, request.of) {
            (Method::Add, [a, b]) => a + b,
            (Method::Divide, [a, b]) => a / b,
        };
        server.serve(answer)
    });
    let divide = "Request { method: Divide, of: [1, 8] }";
    assert_eq!(printed(path, &["call", "calculator", divide]), "0.125\n");
    assert_eq!(printed(path, &["call", "calculator", "{ method: Add, of: [1, -8] }"]), "-7.0\n");
    assert_eq!(json(path, &["call", "calculator", divide]), json!({ "type": "f64", "answer": "0.125" }));
    let raw = common::run(path, &["call", "--raw", "calculator", divide]);
    assert_eq!(raw.stdout, 0.125f64.to_le_bytes());
    let refusal = refused(path, &["call", "calculator", "{ method: Root, of: [1, 8] }"]);
    assert!(refusal.contains("Root"), "{refusal}");
    service.close();
    let refusal = refused(path, &["call", "calculator", divide]);
    assert!(refusal.contains("calculator: the service was closed"), "{refusal}");
    worker.join().unwrap().unwrap();
}

#[test]
fn services_of_any_length_in_a_manager() {
    let dir = directory();
    let path = dir.path();
    let manager = Manager::create(Place::in_dir(path, "shop")).unwrap();
    let text = manager.service::<str, [u16]>("lengths", 4).unwrap();
    let bytes = manager.service::<[u8], str>("digits", 4).unwrap();
    let servers = (text.server(), bytes.server());
    let worker = std::thread::spawn(move || {
        let lengths = |text: &str| text.split(' ').map(|word| word.len() as u16).collect::<Vec<_>>();
        let digits = |bytes: &[u8]| format!("{} bytes\nin two lines", bytes.len());
        std::thread::scope(|scope| {
            scope.spawn(|| servers.0.serve(lengths).unwrap());
            servers.1.serve(digits).unwrap();
        });
    });
    assert_eq!(printed(path, &["call", "shop/lengths", "how long are these"]), "[3, 4, 3, 5]\n");
    assert_eq!(printed(path, &["call", "shop/lengths", "--wait", ""]), "[0]\n");
    assert_eq!(printed(path, &["call", "shop/digits", "00ff10"]), "3 bytes\nin two lines\n");
    assert!(refused(path, &["call", "shop/digits", "xy"]).contains("hexadecimal"));
    assert!(refused(path, &["call", "shop/nothing", "xy"]).contains("shop/nothing: "));
    manager.queue::<u64>("queue", 4).unwrap();
    assert!(refused(path, &["call", "shop/queue", "7"]).contains("is not a service"));
    text.close();
    bytes.close();
    worker.join().unwrap();
}

#[test]
fn without_an_answer() {
    let dir = directory();
    let path = dir.path();
    let service = Service::<u64, u64>::create(Place::in_dir(path, "slow"), 4).unwrap();
    assert!(refused(path, &["call", "slow", "7"]).contains("slow: the service has no server"));
    let refusal = refused(path, &["call", "slow", "7", "--wait", "--timeout", "0.05"]);
    assert!(refusal.contains("slow: no answer came in time"), "{refusal}");
    let server = service.server();
    let waiting = Running::start(path, &["call", "slow", "8", "--wait"]);
    let request = server.recv_timeout(common::PATIENCE).unwrap();
    drop(request);
    common::assert_failure(&waiting.end(), "slow: the server dropped the request");
    // A signal cancels the call.
    let waiting = Running::start(path, &["call", "slow", "9"]);
    let request = server.recv_timeout(common::PATIENCE).unwrap();
    assert_eq!((*request, state(path, "slow", "served")), (9, "1".to_string()));
    waiting.wait_for_handler(Signal::TERM);
    waiting.signal(Signal::TERM);
    let _ = waiting.end();
    eventually("the server sees it", || request.is_cancelled());
}

#[test]
fn shown_and_listed() {
    let dir = directory();
    let path = dir.path();
    let service = Service::<Request, f64>::create(Place::in_dir(path, "calculator"), 4).unwrap();
    let (client, server) = (service.client(), service.server());
    let request = Request { method: Method::Add, of: [1.0, 2.5] };
    let calls: Vec<_> = (0..4).map(|_| client.start(&request).unwrap()).collect();
    let served = server.recv().unwrap();
    server.recv().unwrap().reply(&7.0).unwrap();
    let shown = printed(path, &["show", "calculator"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "calls 4",
        "waiting 2",
        "served 1",
        "ended 1",
        "servers 1",
        "head Request { method: Add, of: [1.0, 2.5] }",
        "=> f64",
        "struct Request",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let state = &json(path, &["ls"])[0]["objects"][0]["state"];
    assert_eq!((&state["calls"], &state["waiting"]), (&json!(4), &json!(2)));
    let top = json(path, &["top", "--once", "--interval", "0.01"]);
    let row = &top["services"][0];
    let numbers = ["servers", "waiting", "served", "cancelled", "ended", "capacity"].map(|label| &row[label]);
    assert_eq!(numbers, [1, 2, 1, 0, 1, 4].map(|number| json!(number)).each_ref());
    let text = printed(path, &["top", "--once", "--interval", "0.01"]);
    assert!(text.contains("SERVICE") && text.contains("CALLS/s"), "{text}");
    drop((served, calls));
    let is_free = || json(path, &["top", "--once", "--interval", "0.01"])["services"][0]["waiting"] == json!(0);
    assert!(is_free());
}
