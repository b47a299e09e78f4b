//! Scenes of services: each operation of a client and of a server, and the reaping of either. At
//! the end each call of the survivor has one outcome, and its own answer; all slots are free, and
//! so is all memory.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::queue::{Payload, RecvError};
use pagemate::service::{Call, CallError, Client, Loan, ReplyStream, Request, Server};
use pagemate::{inspect, untyped, Segment, Service};

use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

/// The child's request. Those of the survivor that are there before are 0, 1, 2 ...
const MINE: u64 = 77;
/// The first of the survivor's later requests.
const OTHERS: u64 = 1000;
/// What the survivor, and what the child adds to a request that it answers.
const BY_SURVIVOR: u64 = 10_000;
const BY_CHILD: u64 = 20_000;
/// Elements of a message that needs a block.
const LEN: usize = 30;
const CAPACITY: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// The messages of a scene: of a fixed size, or in blocks.
pub(super) trait Messages: Payload + 'static {
    fn of(number: u64) -> Box<Self>;
    /// Returns the number; `None` if the message is torn.
    fn number(&self) -> Option<u64>;
    fn owned_number(owned: &Self::Owned) -> Option<u64>;
    /// Sends a request that is written in place. `None`: there is no room.
    fn loan(client: &'static Client<Self, Self>) -> Option<Loan<'static, Self, Self>>;
    /// Answers a request in place.
    fn reply_in_place(request: Request<'static, Self, Self>, number: u64);
    /// Sends a part of an answer that is written in place.
    fn send_part_in_place(reply: &mut ReplyStream<'_, Self, Self>, number: u64);
}

impl Messages for u64 {
    fn of(number: u64) -> Box<u64> {
        Box::new(number)
    }

    fn number(&self) -> Option<u64> {
        Some(*self)
    }

    fn owned_number(owned: &u64) -> Option<u64> {
        Some(*owned)
    }

    fn loan(client: &'static Client<u64, u64>) -> Option<Loan<'static, u64, u64>> {
        let mut loan = client.try_loan().ok()?;
        *loan = MINE;
        Some(loan)
    }

    fn reply_in_place(request: Request<'static, u64, u64>, number: u64) {
        if let Ok(mut loan) = request.reply_loan() {
            *loan = number;
            let _ = loan.send();
        }
    }

    fn send_part_in_place(reply: &mut ReplyStream<'_, u64, u64>, number: u64) {
        let mut loan = reply.loan().unwrap();
        *loan = number;
        loan.send().unwrap();
    }
}

impl Messages for [u64] {
    fn of(number: u64) -> Box<[u64]> {
        vec![number; LEN].into()
    }

    fn number(&self) -> Option<u64> {
        let number = *self.first()?;
        (self.len() == LEN && self.iter().all(|element| *element == number)).then_some(number)
    }

    fn owned_number(owned: &Vec<u64>) -> Option<u64> {
        owned.number()
    }

    fn loan(client: &'static Client<[u64], [u64]>) -> Option<Loan<'static, [u64], [u64]>> {
        client.try_loan(LEN).ok().map(|room| room.fill_with(|_| MINE))
    }

    fn reply_in_place(request: Request<'static, [u64], [u64]>, number: u64) {
        if let Ok(room) = request.reply_loan(LEN) {
            let _ = room.fill_with(|_| number).send();
        }
    }

    fn send_part_in_place(reply: &mut ReplyStream<'_, [u64], [u64]>, number: u64) {
        reply.loan(LEN).unwrap().fill_with(|_| number).send().unwrap();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Op {
    /// As a client.
    Start,
    StartFull,
    StartPast,
    Loan,
    LoanDropped,
    Revoked,
    Cancel,
    CancelServed,
    TimeOut,
    TakeAnswer,
    AnswerInPlace,
    /// As a server, of the survivor's first request.
    Recv,
    RecvPassed,
    Reply,
    ReplyInPlace,
    Refuse,
    /// To the child's own call, which is cancelled.
    ReplyCancelled,
    Join,
    Leave,
    Close,
    /// As a reaper of a third process.
    ReapWaiting,
    ReapServed,
    ReapAnswered,
    ReapServer,
    ReapBoth,
}

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $op:ident, $before:literal, $redeliver:literal, $type:ty;)*) => {
            vec![$(Recipe {
                name: $name,
                build: || Box::new(Exchange::<$type>::new(Op::$op, $before, $redeliver)),
            }),*]
        };
    }
    recipes! {
        "service: start": Start, 1, false, u64;
        "service: start without room": StartFull, 3, false, u64;
        "service: start past a request that waits": StartPast, 1, false, u64;
        "service: loan and start": Loan, 1, false, u64;
        "service: loan dropped": LoanDropped, 1, false, u64;
        "service: start of a revoked loan": Revoked, 0, false, u64;
        "service: cancel": Cancel, 1, false, u64;
        "service: cancel while a server has it": CancelServed, 1, false, u64;
        "service: call until its deadline": TimeOut, 1, false, u64;
        "service: wait for an answer that is there": TakeAnswer, 1, false, u64;
        "service: wait_ref and drop": AnswerInPlace, 1, false, u64;
        "service: recv": Recv, 2, false, u64;
        "service: recv with redelivery": Recv, 2, true, u64;
        "service: recv of a request that was passed": RecvPassed, 1, false, u64;
        "service: reply": Reply, 2, false, u64;
        "service: reply with redelivery": Reply, 2, true, u64;
        "service: reply in place": ReplyInPlace, 2, false, u64;
        "service: refuse": Refuse, 2, false, u64;
        "service: reply to a cancelled request": ReplyCancelled, 0, false, u64;
        "service: server": Join, 1, false, u64;
        "service: server dropped": Leave, 1, false, u64;
        "service: close": Close, 2, false, u64;
        "service: reap a client whose request waits": ReapWaiting, 1, false, u64;
        "service: reap a client whose request is served": ReapServed, 1, false, u64;
        "service: reap a client with an answer": ReapAnswered, 1, false, u64;
        "service: reap a server": ReapServer, 2, false, u64;
        "service: reap a server with redelivery": ReapServer, 2, true, u64;
        "service: reap a client and its server": ReapBoth, 0, false, u64;
        "varied service: start": Start, 1, false, [u64];
        "varied service: loan and start": Loan, 1, false, [u64];
        "varied service: loan dropped": LoanDropped, 1, false, [u64];
        "varied service: start of a revoked loan": Revoked, 0, false, [u64];
        "varied service: cancel": Cancel, 1, false, [u64];
        "varied service: wait_ref and drop": AnswerInPlace, 1, false, [u64];
        "varied service: reply": Reply, 2, false, [u64];
        "varied service: reply with redelivery": Reply, 2, true, [u64];
        "varied service: reply in place": ReplyInPlace, 2, false, [u64];
        "varied service: refuse": Refuse, 2, false, [u64];
        "varied service: reply to a cancelled request": ReplyCancelled, 0, false, [u64];
        "varied service: reap a client whose request waits": ReapWaiting, 1, false, [u64];
        "varied service: reap a client with an answer": ReapAnswered, 1, false, [u64];
        "varied service: reap a server with redelivery": ReapServer, 2, true, [u64];
    }
}

struct Exchange<M: Messages + ?Sized> {
    name: String,
    client: &'static Client<M, M>,
    server: &'static Server<M, M>,
    service: &'static Service<M, M>,
    op: Op,
    before: u64,
    redeliver: bool,
    /// The survivor's calls that have no outcome yet, with their numbers.
    calls: Vec<(u64, Call<'static, M>)>,
    /// Numbers of the survivor's requests that it has answered itself.
    served: Vec<u64>,
    /// What the child uses in its operation.
    loan: Option<Loan<'static, M, M>>,
    call: Option<Call<'static, M>>,
    request: Option<Request<'static, M, M>>,
    own_server: Option<Server<M, M>>,
    segment: Option<Segment>,
    /// A process that answers all requests.
    helper: Option<Helper>,
}

pub(super) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl<M: Messages + ?Sized> Exchange<M> {
    fn new(op: Op, before: u64, redeliver: bool) -> Exchange<M> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("crash-service-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let service: &Service<M, M> =
            leak(Service::builder(CAPACITY).redeliver(redeliver).create(name.as_str()).unwrap());
        let (client, server) = (leak(service.client()), leak(service.server()));
        let mut helper = None;
        if matches!(op, Op::TakeAnswer | Op::AnswerInPlace) {
            helper = Some(Helper::start_blocked(|| {
                while let Ok(request) = server.recv() {
                    let number = request.number().unwrap();
                    request.reply(&M::of(number + BY_SURVIVOR)).unwrap();
                }
                1
            }));
        }
        let start = |number| (number, client.start(&M::of(number)).unwrap());
        let calls = (0..before).map(start).collect();
        if matches!(op, Op::StartPast | Op::RecvPassed) {
            // They carry the tail round the ring, past the request that waits.
            (0..2 * CAPACITY).for_each(|_| drop(client.start(&M::of(OTHERS)).unwrap()));
        }
        Exchange {
            name,
            client,
            server,
            service,
            op,
            before,
            redeliver,
            calls,
            served: Vec::new(),
            loan: None,
            call: None,
            request: None,
            own_server: None,
            segment: None,
            helper,
        }
    }

    fn state(&self, label: &str) -> String {
        let segment = inspect::segment(self.name.as_str()).unwrap();
        let state = &segment.objects[0].state;
        state.iter().find(|(found, _)| *found == label).map_or(String::from("0"), |(_, value)| value.clone())
    }

    /// Answers the requests that are there.
    fn serve(&mut self) -> Result<(), String> {
        loop {
            let request = match self.server.try_recv() {
                Ok(request) => request,
                Err(RecvError::Empty | RecvError::Closed) => return Ok(()),
                Err(error) => return Err(format!("recv: {error}")),
            };
            let number = request.number().ok_or("a torn request")?;
            let is_known = number < self.before || number == MINE || number >= OTHERS;
            if !is_known || number != OTHERS && self.served.contains(&number) {
                return Err(format!("received {number} after {:?}", self.served));
            }
            self.served.push(number);
            let _ = request.reply(&M::of(number + BY_SURVIVOR));
        }
    }

    /// Returns whether the child, or the process that it reaps, has or had the first request.
    fn is_server(&self) -> bool {
        use Op::{ReapServer, Recv, RecvPassed, Refuse, Reply, ReplyInPlace};
        matches!(self.op, Recv | RecvPassed | Reply | ReplyInPlace | Refuse | ReapServer)
    }

    /// Serves until all calls of the survivor have outcomes. A call that a stopped child has may go
    /// on.
    fn collect(&mut self, end: End) -> Result<(), String> {
        let mut fault = None;
        let waited = until("each call has an outcome", || {
            if self.helper.is_none() {
                fault = self.serve().err();
            }
            for (number, call) in std::mem::take(&mut self.calls) {
                match call.try_wait() {
                    Ok(outcome) => {
                        fault = fault.take().or(self.check_outcome(end, number, outcome).err());
                    }
                    Err(call) => self.calls.push((number, call)),
                }
            }
            let may_go_on = |(number, _): &(u64, _)| end == End::Stopped && *number == 0 && self.is_server();
            fault.is_some() || self.calls.iter().all(may_go_on)
        });
        fault.map_or(waited, Err)
    }

    fn check_outcome(
        &self,
        end: End,
        number: u64,
        outcome: Result<M::Owned, CallError>,
    ) -> Result<(), String> {
        let answer = outcome.map(|owned| M::owned_number(&owned));
        // As it would have answered: a helper, or the child in its preparation.
        let is_by_other = matches!(self.op, Op::CancelServed | Op::ReapServed | Op::ReapAnswered);
        let is_by_survivor = self.served.contains(&number) || self.helper.is_some() || is_by_other;
        let is_by_child = number == 0 && self.is_server() && !is_by_survivor;
        let has_answered = end == End::Finished && matches!(self.op, Op::Reply | Op::ReplyInPlace);
        let has_refused = end == End::Finished && matches!(self.op, Op::Recv | Op::RecvPassed | Op::Refuse);
        let is_right = match answer {
            Ok(Some(answer)) if is_by_survivor => answer == number + BY_SURVIVOR,
            Ok(Some(answer)) => is_by_child && answer == BY_CHILD && !has_refused,
            Err(CallError::Refused) => is_by_child && !has_answered,
            Err(CallError::ServerDied) => is_by_child && !has_answered && !has_refused && !self.redeliver,
            _ => false,
        };
        let served = &self.served;
        is_right.then_some(()).ok_or_else(|| format!("call {number} ends with {answer:?}; served {served:?}"))
    }

    /// Checks that others go on: they call and are answered.
    fn check_progress(&mut self) -> Result<(), String> {
        for number in OTHERS..OTHERS + 10 {
            let call = self.client.start_timeout(&M::of(number), PATIENCE);
            let call = call.map_err(|error| format!("a stopped process blocks start: {error}"))?;
            until("the request is received", || {
                let _ = self.serve();
                self.served.contains(&number)
            })?;
            let answer =
                call.wait_timeout(PATIENCE).map(|answer| answer.map(|owned| M::owned_number(&owned)));
            if !matches!(answer, Ok(Ok(Some(answer))) if answer == number + BY_SURVIVOR) {
                return Err(format!("call {number}: {answer:?}"));
            }
        }
        // They wait for their answers while the child goes on, which may receive as a server.
        if !self.is_server() {
            let start = |number| Some((number, self.client.try_start(&M::of(number)).ok()?));
            self.calls.extend((OTHERS + 100..).map_while(start));
        }
        Ok(())
    }

    /// Checks that every slot comes back, and all memory, and that the survivor is the only server.
    fn check_whole(&mut self) -> Result<(), String> {
        let segment = Segment::open(self.name.as_str()).unwrap();
        until("every slot comes back", || {
            untyped::reap(&segment);
            let start = || self.client.try_start(&M::of(OTHERS)).ok();
            std::iter::from_fn(start).take(CAPACITY).collect::<Vec<_>>().len() == CAPACITY
        })?;
        let labels = ["calls", "served", "in use for requests", "in use for answers"];
        let is_clean = || labels.iter().all(|label| self.state(label) == "0") && self.state("servers") == "1";
        until("nothing is left", is_clean)
    }
}

impl<M: Messages + ?Sized> Scene for Exchange<M> {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own. What the
        // survivor holds is not the child's.
        std::mem::forget(std::mem::take(&mut self.calls));
        let (client, server) = (self.client, self.server);
        drop(M::loan(client));
        let mine = M::of(MINE);
        match self.op {
            Op::Revoked => {
                self.loan = M::loan(client);
                let call = client.start(&M::of(OTHERS)).unwrap();
                server.try_recv().unwrap().reply(&M::of(1)).unwrap();
                assert!(call.wait().is_ok());
            }
            Op::Cancel => self.call = client.start(&mine).ok(),
            Op::CancelServed => {
                self.call = client.start(&mine).ok();
                // The survivor's request comes first.
                let [first, second] = [(); 2].map(|()| server.try_recv().unwrap());
                first.reply(&M::of(BY_SURVIVOR)).unwrap();
                std::mem::forget(second);
            }
            Op::TakeAnswer | Op::AnswerInPlace => {
                let call = client.start(&mine).unwrap();
                until("there is an answer", || call.is_ready()).unwrap();
                self.call = Some(call);
            }
            Op::Reply | Op::ReplyInPlace | Op::Refuse => self.request = server.try_recv().ok(),
            Op::ReplyCancelled => {
                let call = client.start(&mine).unwrap();
                self.request = server.try_recv().ok();
                drop(call);
            }
            Op::Leave => self.own_server = Some(self.service.server()),
            Op::ReapWaiting => Helper::die_after(|| std::mem::forget(client.start(&mine).unwrap())),
            Op::ReapServed => {
                Helper::die_after(|| {
                    std::mem::forget(client.start(&mine).unwrap());
                    // The survivor's request comes first.
                    let [first, second] = [(); 2].map(|()| server.try_recv().unwrap());
                    first.reply(&M::of(BY_SURVIVOR)).unwrap();
                    std::mem::forget(second);
                });
            }
            Op::ReapAnswered => {
                Helper::die_after(|| {
                    let call = client.start(&mine).unwrap();
                    let [first, second] = [(); 2].map(|()| server.try_recv().unwrap());
                    first.reply(&M::of(BY_SURVIVOR)).unwrap();
                    second.reply(&mine).unwrap();
                    std::mem::forget(call.wait_ref().unwrap());
                });
            }
            Op::ReapServer => Helper::die_after(|| std::mem::forget(server.try_recv().unwrap())),
            Op::ReapBoth => {
                Helper::die_after(|| {
                    std::mem::forget(client.start(&mine).unwrap());
                    Helper::die_after(|| std::mem::forget(server.try_recv().unwrap()));
                });
            }
            _ => {}
        }
        if self.op >= Op::ReapWaiting {
            self.segment = Some(Segment::open(self.name.as_str()).unwrap());
        }
    }

    fn act(&mut self) {
        let (client, server, mine) = (self.client, self.server, M::of(MINE));
        match self.op {
            Op::Start | Op::StartFull | Op::StartPast => std::mem::forget(client.try_start(&mine)),
            Op::Loan => std::mem::forget(M::loan(client).map(Loan::start)),
            Op::LoanDropped => drop(M::loan(client)),
            Op::Revoked => std::mem::forget(self.loan.take().map(Loan::start)),
            Op::Cancel | Op::CancelServed => drop(self.call.take()),
            Op::TimeOut => _ = client.call_timeout(&mine, Duration::from_micros(100)),
            Op::TakeAnswer => assert!(self.call.take().is_some_and(|call| call.wait().is_ok())),
            Op::AnswerInPlace => {
                let answer = self.call.take().map(|call| call.wait_ref());
                assert_eq!(answer.unwrap().unwrap().number(), Some(MINE + BY_SURVIVOR));
            }
            Op::Recv | Op::RecvPassed => drop(server.try_recv()),
            Op::Reply => _ = self.request.take().map(|request| request.reply(&M::of(BY_CHILD)).is_ok()),
            Op::ReplyInPlace => {
                self.request.take().into_iter().for_each(|request| M::reply_in_place(request, BY_CHILD));
            }
            Op::Refuse => drop(self.request.take()),
            Op::ReplyCancelled => {
                let replied = self.request.take().map(|request| request.reply(&mine).is_ok());
                assert_eq!(replied, Some(false));
            }
            Op::Join => self.own_server = Some(self.service.server()),
            Op::Leave => self.own_server = None,
            Op::Close => _ = self.service.close(),
            _ => self.segment.iter().for_each(untyped::reap),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.op == Op::Close {
            return self.check_closed(end);
        }
        self.collect(end)?;
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
        format!("{:?}\n{:?}", self.service, segment.map(|segment| segment.objects[0].state.clone()))
    }
}

impl<M: Messages + ?Sized> Exchange<M> {
    fn check_closed(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.service.is_closed() {
            return Err("close has returned and the service is not closed".into());
        }
        self.service.close();
        match self.client.try_start(&M::of(MINE)) {
            Err(CallError::Closed) => {}
            other => return Err(format!("closed, but start returns {other:?}")),
        }
        self.serve()?;
        self.collect(end)?;
        match self.server.recv_timeout(PATIENCE).map(|request| request.number()) {
            Err(RecvError::Closed) => Ok(()),
            other => Err(format!("closed, but recv returns {other:?}")),
        }
    }
}

impl<M: Messages + ?Sized> Drop for Exchange<M> {
    fn drop(&mut self) {
        let _ = pagemate::Place::from(self.name.as_str()).remove();
    }
}
