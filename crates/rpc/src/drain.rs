//! `kurir.v1.Drain`: a component is told to let its users go, and tells how far it is.

use std::{fmt, pin::Pin};

use futures_util::stream;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Request, Response, Status};

use crate::v1::{
    DrainProgress, DrainRequest,
    drain_server::{self, DrainServer},
};

/// How far the drain of a component is.
#[derive(Debug, Default)]
pub struct Draining(watch::Sender<DrainProgress>);

impl Draining {
    /// The service of the component, which is called a `role`. `begin` begins the drain, once however often it is called; false: other
    /// roles share the process, and nothing was begun. Who is told of it holds a place in `tasks` until it has the last word or
    /// has gone: the process waits for that.
    pub fn server(
        &self,
        role: &'static str,
        begin: impl Fn() -> bool + Send + Sync + 'static,
        tasks: TaskTracker,
    ) -> DrainServer<Drain> {
        DrainServer::new(Drain { role, begin: Box::new(begin), progress: self.0.subscribe(), tasks })
    }

    /// So many connections were there, are left, and were closed as their time was over.
    pub fn is_at(&self, users: usize, left: usize, closed_at_deadline: usize) {
        let [users, left, closed_at_deadline] = [users, left, closed_at_deadline].map(|count| count as u64);
        self.0.send_replace(DrainProgress { users, left, closed_at_deadline, stopped: false });
    }

    /// The last word.
    pub fn is_done(&self) {
        self.0.send_modify(|progress| progress.stopped = true);
    }
}

/// The service of one component.
pub struct Drain {
    role: &'static str,
    begin: Box<dyn Fn() -> bool + Send + Sync>,
    progress: watch::Receiver<DrainProgress>,
    tasks: TaskTracker,
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("progress", &self.progress).finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl drain_server::Drain for Drain {
    type DrainStream = Pin<Box<dyn Stream<Item = Result<DrainProgress, Status>> + Send>>;

    async fn drain(&self, _request: Request<DrainRequest>) -> Result<Response<Self::DrainStream>, Status> {
        if !(self.begin)() {
            let role = self.role;
            let why = format!("this {role} shares its process with every other part: stop that");
            return Err(Status::failed_precondition(why));
        }
        let mut progress = self.progress.clone();
        // How far it is at once, and then every change.
        progress.mark_changed();
        let told = Told { progress, ended: false, _place: self.tasks.token() };
        Ok(Response::new(Box::pin(stream::unfold(told, Told::next)) as Self::DrainStream))
    }
}

/// Somebody who is told.
struct Told {
    progress: watch::Receiver<DrainProgress>,
    ended: bool,
    _place: TaskTrackerToken,
}

impl Told {
    async fn next(mut self) -> Option<(Result<DrainProgress, Status>, Self)> {
        if self.ended {
            return None;
        }
        self.progress.changed().await.ok()?;
        let progress = *self.progress.borrow_and_update();
        self.ended = progress.stopped;
        Some((Ok(progress), self))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::{drain_server::Drain as _, *};

    fn drain(can_begin: bool) -> (Draining, Drain) {
        let draining = Draining::default();
        let (begin, progress) = (Box::new(move || can_begin), draining.0.subscribe());
        (draining, Drain { role: "relay", begin, progress, tasks: TaskTracker::new() })
    }

    #[tokio::test]
    async fn progress_is_told_at_once_after_every_change_and_to_the_last_word() {
        let (draining, drain) = drain(true);
        let mut told = drain.drain(Request::new(DrainRequest {})).await.unwrap().into_inner();
        assert_eq!(told.next().await.unwrap().unwrap(), DrainProgress::default());
        let some = DrainProgress { users: 2, left: 1, ..DrainProgress::default() };
        draining.is_at(2, 1, 0);
        assert_eq!(told.next().await.unwrap().unwrap(), some);
        draining.is_done();
        assert_eq!(told.next().await.unwrap().unwrap(), DrainProgress { stopped: true, ..some });
        assert_eq!(drain.tasks.len(), 1);
        assert!(told.next().await.is_none());
        assert_eq!(drain.tasks.len(), 0);
    }

    #[tokio::test]
    async fn a_drain_that_cannot_be_is_refused() {
        let (_draining, drain) = drain(false);
        let refused = drain.drain(Request::new(DrainRequest {})).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    }
}
