//! Many who have signed in, each with a task of its own on this one thread. They stay until they are
//! told to leave.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::{self, StreamExt};
use impp_bench::line::{self, Output};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use crate::protocol::{Came, Client, Protocol, Speech};

/// So many sign in at once.
pub(crate) const AT_ONCE: usize = 50;

/// See the module.
pub(crate) struct Crowd {
    members: Vec<Member>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
    /// How many connections have ended by themselves.
    lost: Cell<usize>,
}

struct Member {
    output: Output,
    speech: RefCell<Box<dyn Speech>>,
}

impl Crowd {
    /// Signs in the first so many, and has whatever comes to one of them heard.
    pub(crate) async fn of(
        protocol: &dyn Protocol,
        count: usize,
        heard: impl Fn(&Crowd, usize, Came) + 'static,
    ) -> Rc<Crowd> {
        let sign_ins = (0..count).map(|who| protocol.sign_in(who));
        let clients: Vec<_> = stream::iter(sign_ins).buffered(AT_ONCE).collect().await;
        let (mut members, mut streams) = (Vec::new(), Vec::new());
        for client in clients {
            let Client { stream, speech } = client.expect("a sign-in");
            members.push(Member { output: Output::default(), speech: RefCell::new(speech) });
            streams.push(stream);
        }
        let crowd = Rc::new(Crowd { members, tasks: RefCell::default(), lost: Cell::new(0) });
        let heard = Rc::new(heard);
        for (who, stream) in streams.into_iter().enumerate() {
            let (own, heard) = (Rc::downgrade(&crowd), heard.clone());
            let task = spawn_local(async move {
                let Some(crowd) = own.upgrade() else { return };
                let came = |input: &mut BytesMut| crowd.hear(who, input, &*heard);
                let _ = line::drive(stream, &crowd.members[who].output, came).await;
                crowd.lost.set(crowd.lost.get() + 1);
            });
            crowd.tasks.borrow_mut().push(task);
        }
        crowd
    }

    fn hear(&self, who: usize, input: &mut BytesMut, heard: &dyn Fn(&Crowd, usize, Came)) {
        let member = &self.members[who];
        let (mut come, mut answers) = (Vec::new(), BytesMut::new());
        member.speech.borrow_mut().take(input, &mut answers, &mut come);
        if !answers.is_empty() {
            member.output.put(|out| out.extend_from_slice(&answers));
        }
        for came in come {
            heard(self, who, came);
        }
    }

    /// Somebody says something.
    pub(crate) fn say(&self, who: usize, what: impl FnOnce(&mut dyn Speech, &mut BytesMut)) {
        let member = &self.members[who];
        member.output.put(|out| what(&mut **member.speech.borrow_mut(), out));
    }

    /// Somebody reads no more.
    pub(crate) fn stall(&self, who: usize) {
        self.members[who].output.stall();
    }

    /// Hangs up, everybody at once.
    pub(crate) fn leave(&self) {
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many have lost their connections.
    pub(crate) fn lost(&self) -> usize {
        self.lost.get()
    }
}

/// How long to look for what is so soon if at all, and for what takes a while.
pub(crate) const SOON: Duration = Duration::from_millis(300);
pub(crate) const WHILE: Duration = Duration::from_secs(15);

/// Looks again and again until it is so, or that time is over: what is missing then is told by who
/// looks.
pub(crate) async fn settled(within: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so() && Instant::now() < deadline {
        sleep(Duration::from_millis(2)).await;
    }
}
