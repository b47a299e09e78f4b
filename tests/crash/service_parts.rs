//! Scenes of answers in parts: each operation of the client and of the server. At the end the client
//! has the parts that were sent, in order, and then how the answer has ended; all slots are free,
//! and so is all memory.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::service::{CallError, Client, ReplyStream, Server, Stream};
use pagemate::{inspect, untyped, Segment, Service};

use super::service::{leak, Messages};
use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

const CAPACITY: usize = 2;
/// The number of places for parts. A server sends as many, so that it does not wait.
const PLACES: u64 = 2;
const REQUEST: u64 = 7;
const SOON: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Op {
    /// As a server.
    Send,
    SendInPlace,
    SendFull,
    Finish,
    Refuse,
    /// As a client.
    Start,
    Next,
    NextInPlace,
    Cancel,
    /// As a reaper of a third process.
    ReapServer,
    ReapServerLater,
    ReapClient,
}

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $op:ident, $redeliver:literal, $type:ty;)*) => {
            vec![$(Recipe {
                name: $name,
                build: || Box::new(Parts::<$type>::new(Op::$op, $redeliver)),
            }),*]
        };
    }
    recipes! {
        "service parts: send": Send, false, u64;
        "service parts: send with redelivery": Send, true, u64;
        "service parts: send in place": SendInPlace, false, u64;
        "service parts: send without a place": SendFull, false, u64;
        "service parts: finish": Finish, false, u64;
        "service parts: refuse": Refuse, false, u64;
        "service parts: stream": Start, false, u64;
        "service parts: next": Next, false, u64;
        "service parts: next_ref": NextInPlace, false, u64;
        "service parts: cancel": Cancel, false, u64;
        "service parts: reap a server": ReapServer, false, u64;
        "service parts: reap a server with redelivery": ReapServer, true, u64;
        "service parts: reap a server of all parts": ReapServerLater, false, u64;
        "service parts: reap a client": ReapClient, false, u64;
        "varied service parts: send": Send, false, [u64];
        "varied service parts: send with redelivery": Send, true, [u64];
        "varied service parts: refuse": Refuse, false, [u64];
        "varied service parts: next": Next, false, [u64];
        "varied service parts: next_ref": NextInPlace, false, [u64];
        "varied service parts: cancel": Cancel, false, [u64];
        "varied service parts: reap a server": ReapServer, false, [u64];
        "varied service parts: reap a client": ReapClient, false, [u64];
    }
}

struct Parts<M: Messages + ?Sized> {
    name: String,
    client: &'static Client<M, M>,
    server: &'static Server<M, M>,
    op: Op,
    redeliver: bool,
    /// The survivor's stream, and what it has taken of it.
    stream: Option<Stream<'static, M>>,
    taken: Vec<u64>,
    /// What the child uses in its operation.
    own_stream: Option<Stream<'static, M>>,
    reply: Option<ReplyStream<'static, M, M>>,
    segment: Option<Segment>,
    /// A process that answers all requests, in parts.
    helper: Option<Helper>,
}

/// Sends these parts. Returns whether the client has taken them.
fn send<M: Messages + ?Sized>(reply: &mut ReplyStream<'_, M, M>, parts: std::ops::Range<u64>) -> bool {
    parts.into_iter().all(|part| reply.send(&M::of(part)).is_ok())
}

impl<M: Messages + ?Sized> Parts<M> {
    fn new(op: Op, redeliver: bool) -> Parts<M> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("crash-parts-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let builder = Service::<M, M>::builder(CAPACITY).parts(PLACES as usize).redeliver(redeliver);
        let service = leak(builder.create(name.as_str()).unwrap());
        let (client, server) = (leak(service.client()), leak(service.server()));
        let mut helper = None;
        if matches!(op, Op::Next | Op::NextInPlace | Op::Cancel) {
            // A client that gives up meets a server that waits for a place.
            let count = if op == Op::Cancel { 2 * PLACES } else { PLACES };
            helper = Some(Helper::start_blocked(move || {
                while let Ok(request) = server.recv() {
                    let mut reply = request.stream().unwrap();
                    if send(&mut reply, 0..count) {
                        let _ = reply.finish();
                    }
                }
                1
            }));
        }
        let is_by_child = op <= Op::Refuse || matches!(op, Op::ReapServer | Op::ReapServerLater);
        let stream = is_by_child.then(|| client.stream(&M::of(REQUEST)).unwrap());
        Parts {
            name,
            client,
            server,
            op,
            redeliver,
            stream,
            taken: Vec::new(),
            own_stream: None,
            reply: None,
            segment: None,
            helper,
        }
    }

    fn state(&self, label: &str) -> String {
        let segment = inspect::segment(self.name.as_str()).unwrap();
        let state = &segment.objects[0].state;
        state.iter().find(|(found, _)| *found == label).map_or(String::from("0"), |(_, value)| value.clone())
    }

    /// Takes what there is of the survivor's stream, and serves it if another server has died.
    /// Returns how it has ended, if it has.
    fn take(&mut self, end: End) -> Result<Option<Option<CallError>>, String> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let mut ended = None;
        let waited = until("the stream ends", || {
            while let Some(next) = stream.next_timeout(SOON) {
                match next {
                    Ok(part) => self.taken.push(M::owned_number(&part).unwrap_or(u64::MAX)),
                    Err(CallError::TimedOut) => {
                        if let Ok(request) = self.server.try_recv() {
                            drop(request); // refused
                        }
                        return end == End::Stopped;
                    }
                    Err(error) => {
                        ended = Some(Some(error));
                        return true;
                    }
                }
            }
            ended = Some(None);
            true
        });
        if ended.is_none() {
            self.stream = Some(stream);
        }
        waited.map(|()| ended)
    }

    /// Checks what the survivor's stream had.
    fn check_stream(&mut self, end: End) -> Result<(), String> {
        let ended = self.take(end)?;
        let taken = &self.taken;
        if !taken.iter().copied().eq(0..taken.len() as u64) {
            return Err(format!("the client took {taken:?}"));
        }
        let Some(ended) = ended else { return Ok(()) };
        let count = taken.len() as u64;
        let is_right = match (self.op, ended) {
            (Op::Send | Op::SendInPlace | Op::Finish, None) => count == PLACES,
            // One more if the client took some while the server was stopped.
            (Op::SendFull, None) => count == PLACES || count == PLACES + 1,
            (Op::Refuse, Some(CallError::Refused)) => count == 1,
            (Op::Send | Op::SendInPlace, Some(CallError::Refused)) => self.redeliver && count == 0,
            (Op::ReapServerLater, None) => count == PLACES,
            (Op::ReapServer, Some(CallError::ServerDied)) => count == 1,
            (_, Some(CallError::ServerDied)) => end != End::Finished && (count > 0 || !self.redeliver),
            _ => false,
        };
        is_right.then_some(()).ok_or_else(|| format!("{taken:?} and then {ended:?}"))
    }

    /// Checks that others go on.
    fn check_progress(&mut self) -> Result<(), String> {
        if self.op == Op::Start {
            return Ok(()); // the server below would take its request
        }
        for _ in 0..4 {
            let stream = match self.client.try_stream(&M::of(REQUEST)) {
                Ok(stream) => stream,
                Err(error) => return Err(format!("a stopped process blocks stream: {error}")),
            };
            let request = self.server.try_recv().map_err(|error| format!("recv: {error}"))?;
            let mut reply = request.stream().map_err(|_| "its client takes parts")?;
            if !send(&mut reply, 0..PLACES) || reply.finish().is_err() {
                return Err("the client has not given up".into());
            }
            check_taken(stream, PLACES)?;
        }
        Ok(())
    }

    /// Checks that the helper, which waited for a place, serves again.
    fn check_helper(&self) -> Result<(), String> {
        let stream = self.client.stream(&M::of(REQUEST)).map_err(|error| format!("stream: {error}"))?;
        check_taken(stream, 2 * PLACES)
    }

    fn check_whole(&mut self) -> Result<(), String> {
        self.stream = None;
        let segment = Segment::open(self.name.as_str()).unwrap();
        until("every slot comes back", || {
            untyped::reap(&segment);
            let start = || self.client.try_start(&M::of(REQUEST)).ok();
            std::iter::from_fn(start).take(CAPACITY).collect::<Vec<_>>().len() == CAPACITY
        })?;
        let labels = ["calls", "served", "in use for requests", "in use for answers"];
        let is_clean = || labels.iter().all(|label| self.state(label) == "0") && self.state("servers") == "1";
        until("nothing is left", is_clean)
    }
}

/// Checks that the stream has this number of parts.
fn check_taken<M: Messages + ?Sized>(stream: Stream<'_, M>, count: u64) -> Result<(), String> {
    let taken: Result<Vec<_>, _> = stream.map(|part| part.map(|part| M::owned_number(&part))).collect();
    if taken == Ok((0..count).map(Some).collect()) {
        return Ok(());
    }
    Err(format!("took {taken:?}"))
}

impl<M: Messages + ?Sized> Scene for Parts<M> {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own. What the
        // survivor holds is not the child's.
        std::mem::forget(self.stream.take());
        let (client, server) = (self.client, self.server);
        drop(client.start(&M::of(REQUEST)));
        let begin = || server.try_recv().unwrap().stream().unwrap();
        match self.op {
            Op::Send | Op::SendInPlace => self.reply = Some(begin()),
            Op::SendFull | Op::Finish => {
                let mut reply = begin();
                assert!(send(&mut reply, 0..PLACES));
                self.reply = Some(reply);
            }
            Op::Refuse => {
                let mut reply = begin();
                assert!(send(&mut reply, 0..1));
                self.reply = Some(reply);
            }
            Op::Next | Op::NextInPlace => {
                self.own_stream = client.stream(&M::of(REQUEST)).ok();
                until("all parts are there", || self.state("ended") == "1").unwrap();
            }
            Op::Cancel => {
                self.own_stream = client.stream(&M::of(REQUEST)).ok();
                let waits = || self.helper.as_ref().is_some_and(Helper::is_asleep);
                until("the server waits for a place", || self.state("served") == "1" && waits()).unwrap();
            }
            Op::ReapServer => {
                Helper::die_after(|| {
                    let mut reply = begin();
                    assert!(send(&mut reply, 0..1));
                    std::mem::forget(reply);
                });
            }
            Op::ReapServerLater => {
                Helper::die_after(|| {
                    let mut reply = begin();
                    assert!(send(&mut reply, 0..PLACES) && reply.finish().is_ok());
                });
            }
            Op::ReapClient => {
                Helper::die_after(|| {
                    let stream = client.stream(&M::of(REQUEST)).unwrap();
                    let mut reply = begin();
                    assert!(send(&mut reply, 0..1) && reply.finish().is_ok());
                    std::mem::forget(stream);
                });
            }
            Op::Start => {}
        }
        if self.op >= Op::ReapServer {
            self.segment = Some(Segment::open(self.name.as_str()).unwrap());
        }
    }

    fn act(&mut self) {
        match self.op {
            Op::Send => {
                let mut reply = self.reply.take().unwrap();
                assert!(send(&mut reply, 0..PLACES) && reply.finish().is_ok());
            }
            Op::SendInPlace => {
                let mut reply = self.reply.take().unwrap();
                (0..PLACES).for_each(|part| M::send_part_in_place(&mut reply, part));
                reply.finish().unwrap();
            }
            Op::SendFull => {
                let mut reply = self.reply.take().unwrap();
                let _ = reply.send_timeout(&M::of(PLACES), Duration::from_micros(100));
                reply.finish().unwrap();
            }
            Op::Finish => self.reply.take().unwrap().finish().unwrap(),
            Op::Refuse => drop(self.reply.take()),
            Op::Start => std::mem::forget(self.client.try_stream(&M::of(REQUEST))),
            Op::Next => {
                let taken = self.own_stream.take().unwrap().map(|part| M::owned_number(&part.unwrap()));
                assert!(taken.eq((0..PLACES).map(Some)));
            }
            Op::NextInPlace => {
                let mut stream = self.own_stream.take().unwrap();
                for part in 0..PLACES {
                    assert_eq!(stream.next_ref().unwrap().unwrap().number(), Some(part));
                }
                assert!(stream.next_ref().is_none());
            }
            Op::Cancel => drop(self.own_stream.take()),
            _ => self.segment.iter().for_each(untyped::reap),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.check_stream(end)?;
        if self.op == Op::Cancel && end != End::Stopped {
            self.check_helper()?;
        }
        if let Some(helper) = self.helper.take() {
            helper.kill();
        }
        if end == End::Stopped {
            return self.check_progress();
        }
        self.check_whole()
    }

    fn words(&self) -> String {
        let segment = inspect::segment(self.name.as_str());
        format!("{:?}\n{:?}", self.server, segment.map(|segment| segment.objects[0].state.clone()))
    }
}

impl<M: Messages + ?Sized> Drop for Parts<M> {
    fn drop(&mut self) {
        let _ = pagemate::Place::from(self.name.as_str()).remove();
    }
}
