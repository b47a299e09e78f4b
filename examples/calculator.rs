//! A server of three methods, and typed functions to call them: `cargo run --example calculator`.

use pagemate::service::{CallError, Client, Server};
use pagemate::{Message, Process, Service};

#[derive(Clone, Copy, Message)]
#[repr(u64)]
enum Method {
    Add,
    Divide,
    Root,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Request {
    method: Method,
    of: [f64; 2],
}

fn serve(server: Server<Request, f64>) {
    let done = server.serve(|request| match (request.method, request.of) {
        (Method::Add, [a, b]) => a + b,
        (Method::Divide, [a, b]) => a / b,
        (Method::Root, [a, _]) => a.sqrt(),
    });
    done.expect("the service is intact")
}

fn divide(client: &Client<Request, f64>, a: f64, b: f64) -> Result<f64, CallError> {
    client.call(&Request { method: Method::Divide, of: [a, b] })
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let service = Service::new(16)?;
    let _server = Process::builder().daemon(true).spawn(serve, service.server())?;
    println!("1 / 8 = {}", divide(&service.client(), 1.0, 8.0)?);
    Ok(())
}
