//! Messages and bytes of any length in both directions: `cargo run --example pipe`.

use pagemate::pipe::{Connection, PipeError};
use pagemate::{pipe, Process};

fn shout(mut end: Connection) -> Result<u32, String> {
    let mut lines = 0;
    loop {
        match end.recv_bytes() {
            Ok(line) => end.send_bytes(&line.to_ascii_uppercase()).map_err(|error| error.to_string())?,
            Err(PipeError::Closed) => return Ok(lines), // everything that was sent has been read
            Err(error) => return Err(error.to_string()),
        }
        lines += 1;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let (mut here, there) = pipe()?;
    let child = Process::spawn(shout, there)?;
    for line in ["hello", "", "an empty message is a message too"] {
        here.send_bytes(line.as_bytes())?;
        println!("{:?}", String::from_utf8(here.recv_bytes()?)?);
    }
    here.close();
    println!("the child answered {} times", child.join()??);
    Ok(())
}
