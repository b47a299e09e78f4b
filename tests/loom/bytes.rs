//! Records in a ring of bytes: in one piece, across the end of the ring, in parts; and the end of a
//! pipe.

#![allow(clippy::clone_on_copy)] // Under loom the type is not Copy.

use super::spsc::{producer, Scene};
use super::{model, thread, Arc};
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::{Arrived, ByteReader, ByteWriter, Outgoing, Sort};

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
