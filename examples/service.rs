//! Calls that two servers share, one of which is killed: `cargo run --example service`.

use pagemate::service::Server;
use pagemate::{Process, Service};

/// Counts the divisors of each number that it is asked for.
fn divisors(server: Server<u64, u64>) {
    server.serve(|n| (1..=*n).filter(|divisor| n % divisor == 0).count() as u64).expect("it is intact");
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    // With redelivery, a request of a dead server goes to another one.
    let service = Service::<u64, u64>::builder(16).redeliver(true).build()?;
    let [victim, other] = [(); 2].map(|()| Process::spawn(divisors, service.server()));
    let client = service.client();
    let mut calls = Vec::new();
    for n in 720_000..720_010 {
        calls.push(client.start(&n)?); // all ten go on at once
    }
    victim?.kill()?;
    let mut most = 0;
    for call in calls {
        most = most.max(call.wait()?);
    }
    println!("ten numbers have at most {most} divisors");
    service.close(); // the server gets `Closed`, and its loop ends
    other?.join()?;
    Ok(())
}
