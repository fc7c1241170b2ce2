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

/// The service of one component.
pub struct Drain {
    begin: Box<dyn Fn() -> Result<(), Status> + Send + Sync>,
    progress: watch::Receiver<DrainProgress>,
    tasks: TaskTracker,
}

impl Drain {
    /// `begin` begins the drain, once however often it is called, or says why that cannot be; `progress` is how far it is.
    /// Who is told of it holds a place in `tasks` until it has the last word or has gone: the process waits for that.
    pub fn server(
        begin: impl Fn() -> Result<(), Status> + Send + Sync + 'static,
        progress: watch::Receiver<DrainProgress>,
        tasks: TaskTracker,
    ) -> DrainServer<Self> {
        DrainServer::new(Self { begin: Box::new(begin), progress, tasks })
    }
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
        (self.begin)()?;
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

    fn drain(
        begin: impl Fn() -> Result<(), Status> + Send + Sync + 'static,
    ) -> (watch::Sender<DrainProgress>, Drain) {
        let (tx, progress) = watch::channel(DrainProgress::default());
        (tx, Drain { begin: Box::new(begin), progress, tasks: TaskTracker::new() })
    }

    #[tokio::test]
    async fn progress_is_told_at_once_after_every_change_and_to_the_last_word() {
        let (progress, drain) = drain(|| Ok(()));
        let mut told = drain.drain(Request::new(DrainRequest {})).await.unwrap().into_inner();
        assert_eq!(told.next().await.unwrap().unwrap(), DrainProgress::default());
        let some = DrainProgress { users: 2, left: 1, ..DrainProgress::default() };
        progress.send_replace(some);
        assert_eq!(told.next().await.unwrap().unwrap(), some);
        progress.send_replace(DrainProgress { stopped: true, ..some });
        assert!(told.next().await.unwrap().unwrap().stopped);
        assert_eq!(drain.tasks.len(), 1);
        assert!(told.next().await.is_none());
        assert_eq!(drain.tasks.len(), 0);
    }

    #[tokio::test]
    async fn a_drain_that_cannot_be_is_refused() {
        let (_progress, drain) = drain(|| Err(Status::failed_precondition("no")));
        let refused = drain.drain(Request::new(DrainRequest {})).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    }
}
