//! One writer, one reader: no message is lost, doubled or seen half-written, and nobody sleeps
//! through an item, a free slot or the other side's end.

use super::{model, thread, Arc};
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::area::Area;
use crate::queue::spsc::cursor::{Control, ReadCursor, WriteCursor};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

const SLOTS: u64 = 2;

/// The memory of a ring: its control block and its bytes, which loom watches.
pub(super) struct Scene {
    pub(super) control: Control,
    pub(super) area: Area,
    #[cfg(not(loom))]
    _memory: Vec<u64>,
}

impl Scene {
    /// Creates a ring with both roles taken. The capacity is in units of the ring, the area in
    /// bytes.
    pub(super) fn new(capacity: u64, bytes: usize) -> Arc<Scene> {
        let control = Control::new(capacity);
        control.producer().take(producer()).unwrap();
        control.consumer().take(consumer()).unwrap();
        #[cfg(loom)]
        return Arc::new(Scene { control, area: Area::zeroed(bytes) });
        #[cfg(not(loom))]
        {
            let mut memory = vec![0u64; bytes / 8];
            // SAFETY: the scene keeps the memory, and each user of the area has the scene.
            let area = unsafe { Area::new(memory.as_mut_ptr().cast(), bytes) };
            Arc::new(Scene { control, area, _memory: memory })
        }
    }
}

pub(super) fn producer() -> OwnerId {
    OwnerId::new(1, 1).unwrap()
}

pub(super) fn consumer() -> OwnerId {
    OwnerId::new(2, 1).unwrap()
}

fn scene() -> Arc<Scene> {
    Scene::new(SLOTS, SLOTS as usize * 8)
}

struct Sender(Arc<Scene>, WriteCursor);

impl Sender {
    fn new(scene: &Arc<Scene>) -> Sender {
        Sender(scene.clone(), WriteCursor::start(&scene.control, SLOTS).unwrap())
    }

    /// Sends those of `values` for which there is room, at once.
    fn try_send(&mut self, values: &[u64]) -> Result<usize, Blocked> {
        let room = self.1.room(&self.0.control, values.len() as u64)?;
        let count = values.len().min(room as usize);
        for (i, value) in values[..count].iter().enumerate() {
            // SAFETY: `room` has granted these slots.
            unsafe { self.0.area.write((self.1.position() + i as u64) * 8, &value.to_le_bytes()) };
        }
        self.1.publish(&self.0.control, count as u64);
        Ok(count)
    }

    fn send(&mut self, value: u64) -> Result<(), Blocked> {
        let scene = self.0.clone();
        let attempt = || match self.try_send(&[value]) {
            Err(Blocked::Later) => None,
            sent => Some(sent.map(|count| assert_eq!(count, 1))),
        };
        scene.control.wait_for_space(Deadline::Never, || (), attempt).unwrap()
    }
}

struct Receiver(Arc<Scene>, ReadCursor);

impl Receiver {
    fn new(scene: &Arc<Scene>) -> Receiver {
        Receiver(scene.clone(), ReadCursor::start(&scene.control, SLOTS).unwrap())
    }

    /// Receives at most `want` messages at once.
    fn try_recv(&mut self, want: u64) -> Result<Vec<u64>, Blocked> {
        let count = self.1.ready(&self.0.control, want)?.min(want);
        let values = (0..count).map(|i| {
            let mut bytes = [0; 8];
            // SAFETY: `ready` has granted these slots.
            unsafe { self.0.area.read((self.1.position() + i) * 8, bytes.as_mut_ptr(), 8) };
            u64::from_le_bytes(bytes)
        });
        let values = values.collect();
        self.1.release(&self.0.control, count);
        Ok(values)
    }

    fn recv(&mut self, want: u64) -> Result<Vec<u64>, Blocked> {
        let scene = self.0.clone();
        let attempt = || match self.try_recv(want) {
            Err(Blocked::Later) => None,
            received => Some(received),
        };
        scene.control.wait_for_items(Deadline::Never, || (), attempt).unwrap()
    }
}

#[test]
fn busy() {
    model("spsc: messages over two slots, never sleeping", || {
        let scene = scene();
        let (mut sender, mut receiver) = (Sender::new(&scene), Receiver::new(&scene));
        let receiving = thread::spawn(move || {
            let mut got = Vec::new();
            for _ in 0..4 {
                got.extend(receiver.try_recv(1).unwrap_or_default());
            }
            (receiver, got)
        });
        let sent: Vec<u64> = (1..=4).filter(|value| sender.try_send(&[*value]).is_ok()).collect();
        let (mut receiver, mut got) = receiving.join().unwrap();
        while let Ok(more) = receiver.try_recv(1) {
            got.extend(more);
        }
        assert_eq!(got, sent);
    });
}

#[test]
fn sleeping() {
    model("spsc: three messages over two slots, both sleep", || {
        let scene = scene();
        let (mut sender, mut receiver) = (Sender::new(&scene), Receiver::new(&scene));
        let receiving = thread::spawn(move || {
            for value in 1..=3 {
                assert_eq!(receiver.recv(1).unwrap(), [value]);
            }
        });
        (1..=3).for_each(|value| sender.send(value).unwrap());
        receiving.join().unwrap();
    });
}

#[test]
fn batches() {
    model("spsc: batches over two slots", || {
        let scene = scene();
        let (mut sender, mut receiver) = (Sender::new(&scene), Receiver::new(&scene));
        let receiving = thread::spawn(move || {
            let mut got = Vec::new();
            while got.len() < 4 {
                got.extend(receiver.recv(2).unwrap());
            }
            assert_eq!(got, [1, 2, 3, 4]);
        });
        assert_eq!(sender.try_send(&[1, 2]), Ok(2));
        sender.send(3).unwrap();
        sender.send(4).unwrap();
        receiving.join().unwrap();
    });
}

#[test]
fn a_producer_dies_while_its_consumer_waits() {
    model("spsc: a producer dies, two reapers, a sleeping consumer", || {
        let scene = scene();
        let (mut sender, mut receiver) = (Sender::new(&scene), Receiver::new(&scene));
        let receiving = thread::spawn(move || {
            assert_eq!(receiver.recv(1), Ok(vec![1]), "what the dead one sent comes first");
            assert_eq!(receiver.recv(1), Err(Blocked::Closed));
        });
        sender.try_send(&[1]).unwrap();
        let other = scene.clone();
        let reaper = thread::spawn(move || other.control.recover(producer()));
        scene.control.recover(producer());
        reaper.join().unwrap();
        receiving.join().unwrap();
    });
}

#[test]
fn a_consumer_closes_while_its_producer_waits() {
    model("spsc: a consumer closes under a sleeping producer", || {
        let scene = scene();
        let (mut sender, mut receiver) = (Sender::new(&scene), Receiver::new(&scene));
        assert_eq!(sender.try_send(&[1, 2]), Ok(2));
        let receiving = thread::spawn(move || {
            let got = receiver.try_recv(1).unwrap();
            receiver.0.control.close_consumer(consumer());
            got
        });
        assert!(matches!(sender.send(3), Ok(()) | Err(Blocked::Closed)));
        assert!(matches!(sender.send(4), Err(Blocked::Closed)), "nobody will ever make room");
        assert_eq!(receiving.join().unwrap(), [1]);
    });
}

#[test]
fn a_role_goes_to_one_of_two() {
    model("spsc: two want one role, and its holder dies", || {
        let scene = Arc::new(Control::new(SLOTS));
        let (a, b) = (producer(), consumer());
        let other = scene.clone();
        let rival = thread::spawn(move || other.producer().take(a).is_ok());
        let mine = scene.producer().take(b).is_ok();
        assert!(mine != rival.join().unwrap());
        scene.recover(a);
        scene.recover(b);
        assert!(scene.producer().is_gone());
    });
}
