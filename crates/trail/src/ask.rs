//! Asking every component.

use std::{collections::BTreeSet, time::Duration};

use kurir_rpc::{
    connect,
    v1::{self, ExplainRequest, ExplainResponse, TrailEvent, explain_client::ExplainClient},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{Asked, SentAs, Step};

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Id and gRPC address, `http://host:port`, of every component.
    pub components: Vec<(String, String)>,
    /// How long each of them is waited for, twice.
    pub patience: Duration,
}

/// A component that did not answer, or could not say all.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Its id.
    pub component: String,
    /// Why, as far as that can be said.
    pub error: String,
}

/// What they have answered.
#[derive(Debug, Default)]
pub struct Answers {
    /// All that anybody knows of the message, each once, in order of time.
    pub events: Vec<TrailEvent>,
    /// Whose part is missing, or something of it.
    pub silent: Vec<Silent>,
    /// Who remembers nothing.
    pub off: Vec<String>,
    /// Since when everybody remembers who remembers anything, in microseconds since the Unix epoch.
    pub since_us: Option<i64>,
}

impl Asker {
    /// What becomes of a message, as far as it is known anywhere.
    ///
    /// Two rounds: only who stored it knows under which id the sender sent it, and by that its refused attempts are
    /// found; and the other way round.
    pub async fn ask(&self, asked: &Asked) -> Answers {
        let mut answers = self.round(asked.encode()).await;
        let known = |event: &TrailEvent| {
            Step::of(&event.step) == Some(Step::Accepted)
                && !event.message_id.is_empty()
                && !event.stanza_id.is_empty()
        };
        if let Some(event) = answers.events.iter().find(|event| known(event)) {
            let sent_as = SentAs {
                user: event.user.clone(),
                device: Some(event.device.clone()),
                id: event.message_id.clone(),
            };
            let more = Asked { stanza_id: event.stanza_id.parse().ok(), sent_as: Some(sent_as) };
            if more != *asked {
                let more = self.round(more.encode()).await;
                answers.events.extend(more.events);
                answers.silent.extend(more.silent);
            }
        }
        answers.sort();
        answers
    }

    async fn round(&self, request: ExplainRequest) -> Answers {
        let mut asking = JoinSet::new();
        let patience = self.patience;
        for (component, url) in self.components.iter().cloned() {
            let request = request.clone();
            asking.spawn(async move {
                let answer = timeout(patience, one(&url, request)).await;
                (component, answer.unwrap_or_else(|_| Err("no answer in time".to_owned())))
            });
        }
        let mut answers = Answers::default();
        while let Some(answered) = asking.join_next().await {
            // Nothing is cancelled, and a panic in one is no answer from it.
            let Ok((component, answer)) = answered else { continue };
            match answer {
                Ok(answer) => answers.add(component, answer),
                Err(error) => answers.silent.push(Silent { component, error }),
            }
        }
        answers
    }
}

async fn one(url: &str, request: ExplainRequest) -> Result<ExplainResponse, String> {
    let channel = connect(url).await.map_err(|error| kurir_rpc::chain(&error))?;
    let answer = ExplainClient::new(channel).explain(request).await;
    // The rest of a status is gRPC's own business.
    answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

impl Answers {
    fn add(&mut self, component: String, answer: v1::ExplainResponse) {
        self.events.extend(answer.events);
        if answer.incomplete {
            let error = "its database gave no answer".to_owned();
            self.silent.push(Silent { component: component.clone(), error });
        }
        if answer.off {
            self.off.push(component);
        } else {
            self.since_us = self.since_us.max(Some(answer.since_us));
        }
    }

    fn sort(&mut self) {
        // Both what is in a ring and what is in SQL comes, and SQL from every manager.
        let mut seen = BTreeSet::new();
        self.events.retain(|event| seen.insert(identity(event)));
        self.events.sort_by_cached_key(|event| (event.at_us, Step::of(&event.step), event.seq));
        self.silent.sort_by(|one, other| one.component.cmp(&other.component));
        self.silent.dedup_by(|one, other| one.component == other.component);
        self.off.sort();
    }
}

fn identity(event: &TrailEvent) -> (i64, u64, u64, String) {
    let TrailEvent { component, step, reason, user, device, message_id, .. } = event;
    let words = format!("{component} {step} {reason} {user} {device} {message_id}");
    (event.at_us, event.seq, event.connection, words)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use kurir_rpc::v1::explain_server::{Explain, ExplainServer};
    use tokio::net::TcpListener;
    use tonic::{Request, Response, Status};
    use uuid::Uuid;

    use super::*;
    use crate::{Bounds, Counts, Device, Event, Kept, Trail};

    /// A component with nothing but a trail.
    struct Part {
        id: &'static str,
        trail: Arc<Trail>,
        asked: Arc<Mutex<Vec<Asked>>>,
        incomplete: bool,
    }

    #[tonic::async_trait]
    impl Explain for Part {
        async fn explain(
            &self,
            request: Request<ExplainRequest>,
        ) -> Result<Response<ExplainResponse>, Status> {
            let asked = Asked::decode(request.into_inner())
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let events = self.trail.explain(asked.clone(), 100).await;
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            let events = events.into_iter().map(|event| Kept::encode(self.id, event)).collect();
            Ok(Response::new(ExplainResponse {
                events,
                off: false,
                since_us: self.trail.since_us(),
                incomplete: self.incomplete,
            }))
        }
    }

    async fn part(id: &'static str, events: Vec<Event>) -> ((String, String), Arc<Mutex<Vec<Asked>>>) {
        part_with(id, events, false).await
    }

    async fn part_with(
        id: &'static str,
        events: Vec<Event>,
        incomplete: bool,
    ) -> ((String, String), Arc<Mutex<Vec<Asked>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bounds = Bounds { events: 10, age: Duration::from_mins(1) };
        let (trail, asked) = (Arc::new(Trail::new(bounds, Counts::default(), 3)), Arc::default());
        trail.note_all(events);
        let part = Part { id, trail, asked: Arc::clone(&asked), incomplete };
        let server = kurir_rpc::server().add_service(ExplainServer::new(part));
        tokio::spawn(server.serve_with_incoming(kurir_rpc::incoming(listener)));
        ((id.to_owned(), url), asked)
    }

    /// Refused at one relay, stored from another: whoever asks by the stanza id is told of both.
    #[tokio::test]
    async fn all_parts_are_put_together_and_the_silent_are_named() {
        let stanza_id = Some(Uuid::now_v7());
        let (esa, again) =
            (Arc::new(Device::new("esa", "phone", 3, 1)), Arc::new(Device::new("esa", "phone", 1, 9)));
        let message_id = || Some("a".into());
        let refused = Event { message_id: message_id(), ..Event::new(10, Step::Refused, &esa) };
        let accepted =
            Event { stanza_id, message_id: message_id(), ..Event::new(20, Step::Accepted, &again) };
        let stored = Event { stanza_id, ..Event::new(25, Step::Stored, &again) };
        let committed = Event {
            stanza_id,
            ..Event::new(22, Step::Committed, &Arc::new(Device::elsewhere("esa", "phone")))
        };
        let (first, asked) = part("relay-1", vec![refused]).await;
        let (second, _) = part("relay-2", vec![accepted, stored]).await;
        let (manager, _) = part_with("manager-1", vec![committed], true).await;
        let gone = ("relay-3".to_owned(), "http://127.0.0.1:1".to_owned());
        let asker =
            Asker { components: vec![first, second, manager, gone], patience: Duration::from_secs(10) };
        let answers = asker.ask(&Asked { stanza_id, sent_as: None }).await;
        let told: Vec<_> =
            answers.events.iter().map(|event| (event.at_us, &*event.component, &*event.step)).collect();
        assert_eq!(
            told,
            [
                (10, "relay-1", "refused"),
                (20, "relay-2", "accepted"),
                (22, "manager-1", "committed"),
                (25, "relay-2", "stored"),
            ]
        );
        let silent: Vec<_> = answers.silent.iter().map(|silent| &*silent.component).collect();
        assert_eq!(silent, ["manager-1", "relay-3"], "each once, with those who did not say all");
        assert_eq!(answers.since_us, Some(3));
        assert_eq!(asked.lock().unwrap_or_else(PoisonError::into_inner).len(), 2, "two rounds and no more");

        // And by what the sender called it.
        let sent_as = SentAs { user: "esa".into(), device: None, id: "a".into() };
        let by_sender = asker.ask(&Asked { stanza_id: None, sent_as: Some(sent_as) }).await;
        assert_eq!(by_sender.events, answers.events);
    }
}
