use std::path::Path;

use super::*;

/// One with a file that cannot be written, and cannot be cut back either.
async fn broken(path: &Path) -> Tracking {
    open(path, StateFile::break_disk).await
}

async fn tracking(path: &Path, full: bool) -> Tracking {
    open(path, |file| {
        if full {
            file.fill_disk();
        }
    })
    .await
}

async fn open(path: &Path, change: impl FnOnce(&mut StateFile)) -> Tracking {
    let mut options = Options::new(["localhost:5000"], "Esa", "12345");
    options.state = Some(path.to_owned());
    let mut opened = Opened::open(&options).await.unwrap();
    opened.file.as_mut().map(change).unwrap();
    Tracking::new(opened, None, &options.timing)
}

async fn sends(tracking: &mut Tracking, number: u128) -> Result<MessageId, SendError> {
    let (id, (done, mut kept)) = (MessageId::numbered(number), oneshot::channel());
    tracking.send(id, NewMessage::text("fajar", "halo").stanza("esa", id), Some(done));
    tracking.keep();
    assert!(kept.try_recv().is_err(), "not before it is on disk");
    let written = tracking.write().await;
    tracking.written(written);
    kept.try_recv().unwrap()
}

fn waiting(tracking: &Tracking) -> Vec<MessageId> {
    tracking.waiting().into_iter().map(|waiting| waiting.id).collect()
}

#[tokio::test]
async fn a_message_that_cannot_be_kept_is_not_taken_and_the_next_one_finds_a_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("esa.jsonl");
    let mut full = tracking(&path, true).await;
    let before = std::fs::read(&path).unwrap();
    let refused = sends(&mut full, 1).await;
    assert_eq!(refused, Err(SendError::NotKept { kind: io::ErrorKind::StorageFull }));
    assert_eq!((waiting(&full), full.complaint().is_none()), (Vec::new(), true), "its sender was told");
    assert_eq!(std::fs::read(&path).unwrap(), before, "or the next start would send it");
    assert_eq!(sends(&mut full, 2).await, Ok(MessageId::numbered(2)));
    drop(full);
    assert_eq!(waiting(&tracking(&path, false).await), [MessageId::numbered(2)]);
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_again_or_given_up_now_stays() {
    let (old, new) = (MessageId::numbered(1), MessageId::numbered(2));
    let again: fn(&mut Tracking, Done) =
        |tracking, done| tracking.send_again(MessageId::numbered(1), MessageId::numbered(2), done);
    let given_up: fn(&mut Tracking, Done) = |tracking, done| tracking.discard(MessageId::numbered(1), done);
    for (act, left) in [(again, vec![new]), (given_up, vec![])] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("esa.jsonl");
        let mut full = tracking(&path, true).await;
        let stanza = NewMessage::text("fajar", "halo").stanza("esa", old);
        full.queue.push(Queued { id: old, since_ms: 0, stanza }).unwrap();
        full.queue.saved(old);
        full.connected();
        assert!(matches!(full.next_to_send(), Next::Ask(_)));
        full.queue.expire(old).unwrap();
        let does = async |tracking: &mut Tracking| {
            let (done, mut kept) = oneshot::channel();
            act(tracking, done);
            tracking.keep();
            let written = tracking.write().await;
            tracking.written(written);
            kept.try_recv().unwrap()
        };
        let refused = does(&mut full).await;
        assert_eq!(refused, Err(SendError::NotKept { kind: io::ErrorKind::StorageFull }));
        assert_eq!(waiting(&full), [old]);
        // The disk has room again.
        does(&mut full).await.unwrap();
        assert_eq!(waiting(&full), left);
        drop(full);
        assert_eq!(waiting(&tracking(&path, false).await), left);
    }
}

#[tokio::test]
async fn a_message_that_the_file_may_have_all_the_same_is_not_said_to_be_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("esa.jsonl");
    let mut broken = broken(&path).await;
    let refused = sends(&mut broken, 1).await;
    assert_eq!(refused, Err(SendError::PerhapsKept { kind: io::ErrorKind::StorageFull }));
    assert_eq!(sends(&mut broken, 2).await, Ok(MessageId::numbered(2)));
    drop(broken);
    assert_eq!(waiting(&tracking(&path, false).await), [MessageId::numbered(2)]);
}

/// A place that cannot be written is tried again after a while, and the servers are not told of it before.
#[tokio::test(start_paused = true)]
async fn a_place_is_told_once_it_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("esa.jsonl");
    let mut full = broken(&path).await;
    let inbox = full.inbox().unwrap();
    inbox.ready(1, "l".into(), false);
    inbox.came(1, 1);
    inbox.took(1);
    full.keep();
    let written = full.write().await;
    assert_eq!((full.written(written), full.place()), (None, 0));
    let complaint = full.complaint().unwrap();
    assert!(matches!(&complaint, StateError::Io { path: at, .. } if *at == path), "{complaint:?}");
    full.keep();
    assert!(!full.keeper.is_writing(), "not at once");
    let due = full.due().unwrap();
    full.on_time(due);
    full.keep();
    let written = full.write().await;
    assert_eq!((full.written(written), full.place()), (Some(1), 1));
    drop(full);
    assert_eq!(tracking(&path, false).await.place(), 1);
}
