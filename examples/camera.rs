//! A camera, a recorder of every frame, and two viewers: `cargo run --example camera`. Each frame
//! has a size of its own, as if it were compressed.

use pagemate::queue::topic::From;
use pagemate::{Event, Process, Topic};

/// The camera waits for a recorder, so it loses nothing. Returns the number of frames.
fn record((frames, ready): (Topic<[u8]>, Event)) -> u64 {
    let mut recorder = frames.subscribe_lossless(From::Latest).expect("the topic is intact");
    ready.set();
    while let Ok(frame) = recorder.recv_ref() {
        assert!(frame.iter().all(|pixel| *pixel == frame[0]));
    }
    recorder.position()
}

/// Nobody waits for a viewer. Returns the number of frames that it has seen or knows to have lost.
fn view((frames, ready): (Topic<[u8]>, Event)) -> u64 {
    let mut viewer = frames.subscribe(From::Latest).expect("the topic is intact");
    ready.set();
    viewer.iter().filter(Result::is_ok).count() as u64 + viewer.lost()
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (frames, ready) = (Topic::<[u8]>::new(16)?, [Event::new()?, Event::new()?, Event::new()?]);
    let start = |f, n: usize| Process::spawn(f, (frames.clone(), ready[n].clone()));
    let (recorder, viewer, victim) = (start(record, 0)?, start(view, 1)?, start(view, 2)?);
    ready.iter().for_each(|ready| _ = ready.wait());
    let camera = frames.publisher();
    for number in 0..100u8 {
        let size = 50_000 + 400 * (37 * usize::from(number) % 100);
        camera.loan(size)?.fill_with(|_| number).publish()?;
        (number == 50).then(|| victim.kill()).transpose()?;
    }
    frames.close();
    let (recorded, viewed) = (recorder.join()?, viewer.join()?);
    println!("the recorder has {recorded} frames, the viewer saw or missed {viewed}");
    Ok(())
}
