//! Slices of arrays when the pool ends.

use std::sync::mpsc::channel;
use std::time::Duration;

use pagemate::{Array, Pool, Segment};

const LONG: Duration = Duration::from_secs(30);

/// Who only looks at the pool's segment is waited for by nobody.
#[test]
fn a_slice_does_not_wait_for_who_looks_at_the_segment() {
    let name = format!("pool-slices-{}", std::process::id());
    let pool = Pool::builder().workers(2).name(&name).build().unwrap();
    let looks = Segment::open(&name).unwrap();
    let (input, output) = (Array::new(100, 0_u8).unwrap(), Array::new(100, 0_u8).unwrap());
    pool.map_slice(|_: &[u8], to: &mut [u8]| to.fill(1), &input, &output).unwrap();
    pool.terminate();
    let (sender, results) = channel();
    std::thread::spawn(move || {
        let result = pool.map_slice(|_: &[u8], _: &mut [u8]| (), &input, &output);
        sender.send(result.is_err()).unwrap();
    });
    assert_eq!(results.recv_timeout(LONG), Ok(true));
    drop(looks);
}
