//! Records in a ring of bytes: in one piece, across the end of the ring, in parts; and the end of a
//! pipe.

#![allow(clippy::clone_on_copy)] // Under loom the type is not Copy.

use super::spsc::{producer, Scene};
use super::{model, thread, Arc};
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::{Arrived, ByteReader, ByteWriter, Outgoing, Sort, Step};

use crate::sys::clock::Deadline;

const RING: usize = 64;

fn ends() -> (Arc<Scene>, ByteWriter, ByteReader) {
    let scene = Scene::new(RING as u64, RING);
    let writer = ByteWriter::start(&scene.control, scene.area.clone()).unwrap();
    let reader = ByteReader::start(&scene.control, scene.area.clone()).unwrap();
    (scene, writer, reader)
}

fn message(len: usize, seed: u8) -> Vec<u8> {
    (0..len as u8).map(|i| i.wrapping_mul(3).wrapping_add(seed)).collect()
}

fn send(scene: &Scene, writer: &mut ByteWriter, bytes: &[u8]) -> Result<(), Blocked> {
    let mut message = Outgoing::new(Sort::Bytes, 0, bytes);
    loop {
        let attempt = || match writer.step(&scene.control, &mut message) {
            Err(Blocked::Later) => None,
            stepped => Some(stepped),
        };
        if scene.control.wait_for_space(Deadline::Never, || (), attempt).unwrap()? {
            return Ok(());
        }
    }
}

fn recv(scene: &Scene, reader: &mut ByteReader) -> Result<Vec<u8>, Blocked> {
    loop {
        let attempt = || match reader.step(&scene.control) {
            Err(Blocked::Later) => None,
            stepped => Some(stepped),
        };
        if let Some(arrived) = scene.control.wait_for_items(Deadline::Never, || (), attempt).unwrap()? {
            let Arrived { sort, tag, len, .. } = arrived;
            let bytes = reader.take(&scene.control);
            assert_eq!((sort, tag, len), (Sort::Bytes, 0, bytes.len()));
            return Ok(bytes);
        }
    }
}

#[test]
fn round_the_end() {
    model("bytes: records that go round the end", || {
        let (scene, mut writer, mut reader) = ends();
        let other = scene.clone();
        let sending = thread::spawn(move || {
            (0..3).for_each(|i| send(&other, &mut writer, &message(20, i)).unwrap());
        });
        (0..3).for_each(|i| assert_eq!(recv(&scene, &mut reader).unwrap(), message(20, i)));
        sending.join().unwrap();
    });
}

#[test]
fn in_parts() {
    model("bytes: a message larger than the ring", || {
        let (scene, mut writer, mut reader) = ends();
        let other = scene.clone();
        let sending = thread::spawn(move || {
            send(&other, &mut writer, &message(90, 1)).unwrap();
            send(&other, &mut writer, &[]).unwrap();
        });
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(90, 1));
        assert!(recv(&scene, &mut reader).unwrap().is_empty());
        sending.join().unwrap();
    });
}

#[test]
fn end_of_file() {
    model("pipe: end of file after everything that was sent", || {
        let (scene, mut writer, mut reader) = ends();
        let other = scene.clone();
        let sending = thread::spawn(move || {
            send(&other, &mut writer, &message(10, 1)).unwrap();
            other.control.close_producer(producer());
        });
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(10, 1));
        assert_eq!(recv(&scene, &mut reader), Err(Blocked::Closed));
        sending.join().unwrap();
    });
}

#[test]
fn death_between_two_parts() {
    model("pipe: the sender dies between two parts", || {
        let (scene, mut writer, mut reader) = ends();
        let other = scene.clone();
        let dying = thread::spawn(move || {
            send(&other, &mut writer, &message(10, 1)).unwrap();
            let large = message(90, 2);
            let mut large = Outgoing::new(Sort::Bytes, 0, &large);
            // The writer may get no further than this, or not even here, for lack of room.
            assert_ne!(writer.step(&other.control, &mut large), Ok(true));
            other.control.recover(producer());
        });
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(10, 1));
        assert_eq!(recv(&scene, &mut reader), Err(Blocked::Closed));
        dying.join().unwrap();
    });
}

#[test]
fn a_message_given_up() {
    model("bytes: a sender that gives up between two parts", || {
        let (scene, mut writer, mut reader) = ends();
        let other = scene.clone();
        let sending = thread::spawn(move || {
            let large = message(90, 2);
            let mut large = Outgoing::new(Sort::Bytes, 0, &large);
            assert_eq!(writer.step(&other.control, &mut large), Ok(false));
            send(&other, &mut writer, &message(10, 1)).unwrap();
        });
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(10, 1));
        sending.join().unwrap();
    });
}

/// Receives the first of two parts of a message into a buffer of the caller's, and finds the header
/// of the second one damaged; then it is repaired.
fn halfway() -> (Arc<Scene>, ByteWriter, ByteReader) {
    let (scene, mut writer, mut reader) = ends();
    let whole = message(90, 1);
    let mut large = Outgoing::new(Sort::Bytes, 0, &whole);
    let mut buffer = [0; 90];
    assert_eq!(writer.step(&scene.control, &mut large), Ok(false));
    assert_eq!(reader.step_into(&scene.control, &mut buffer), Ok(Step::Part));
    assert_eq!(writer.step(&scene.control, &mut large), Ok(true));
    let at = RING as u64;
    // SAFETY: the writer has published the record, and the reader does not run meanwhile.
    let header = unsafe { scene.area.word(at) };
    // SAFETY: as above.
    unsafe { scene.area.write(at, &[0xff; 8]) };
    assert_eq!(reader.step_into(&scene.control, &mut buffer), Err(Blocked::Corrupted));
    // SAFETY: as above.
    unsafe { scene.area.write(at, &header.to_le_bytes()) };
    (scene, writer, reader)
}

#[test]
fn the_rest_of_a_message_in_another_buffer() {
    model("bytes: a damaged header in the middle of a message", || {
        let (scene, _, mut reader) = halfway();
        let mut other = [0; 90];
        assert_eq!(reader.step_into(&scene.control, &mut other), Ok(Step::Copied(90)));
        assert_eq!(other[..], message(90, 1));

        let (scene, _, mut reader) = halfway();
        assert!(matches!(reader.step_into(&scene.control, &mut [0; 10]), Ok(Step::Arrived(_))));
        assert_eq!(reader.take(&scene.control), message(90, 1));

        let (scene, mut writer, mut reader) = halfway();
        let other = scene.clone();
        let sending = thread::spawn(move || send(&other, &mut writer, &message(10, 2)).unwrap());
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(90, 1));
        assert_eq!(recv(&scene, &mut reader).unwrap(), message(10, 2));
        sending.join().unwrap();
    });
}
