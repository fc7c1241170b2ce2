//! Registration and login (PROTOCOL §2, rows M8–M13). The checks stand in the order in which they are answered.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_directory::{
    DirectoryError, Generation, NewSession, Session, SessionClaim, SessionEnd, UserEntries,
};
use kurir_metrics::Label;
use kurir_protocol::{
    manager::{Auth, Session as Token},
    name::{LoginId, Resource, UserKey, Username},
    replies,
};
use kurir_socket::Outbox;
use tokio::time::timeout;

use crate::{
    manager::{Manager, Temporary, now_ms},
    metrics::AuthResult,
    online::Online,
    presence::EndOfRelay,
    sessions::UnderWay,
    store::{
        Account, CreateError, FIRST_LOGIN, NewAccount,
        device::{Login, LoginError, LoginSession, NewSession as NewToken},
        session::{SessionToken, SessionUse},
    },
};

/// A login with a token that was used before may have come late, with its client's farewell behind it: that is waited for.
const LEAVES_WITHIN: Duration = Duration::from_millis(300);

const FIRST_BIO: &str = "Feel happy using this application! ;D";

/// The connection that somebody logs in on.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) outbox: Arc<Outbox>,
}

impl Client {
    /// An error: nobody waits for the answer any more. A login that comes late, after its client has given it up, must not take
    /// the device from the one that the client made instead.
    fn is_there(&self) -> Result<(), Temporary> {
        if self.outbox.is_abandoned() { Err(Temporary::Abandoned) } else { Ok(()) }
    }

    /// The same, in a moment.
    async fn stays(&self) -> Result<(), Temporary> {
        let _ = timeout(LEAVES_WITHIN, self.outbox.abandoned()).await;
        self.is_there()
    }
}

/// A login that is on record and not served yet.
struct Claimed<'a> {
    device: Resource,
    session: NewSession,
    generation: Generation,
    /// Of a named device: its older sessions.
    displaced: Vec<Session>,
    /// What ends it meanwhile is not lost.
    under_way: UnderWay<'a>,
}

/// Somebody who is online now.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) online: Arc<Online>,
    /// What the device logs in with again.
    pub(crate) session: Token,
}

/// Whether a login takes the device from an older one that is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Older {
    Stays,
    GivesWay,
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the username is taken")]
    UsernameUsed,
    #[error("the username or the password is bad or wrong")]
    BadRequest,
    #[error("there is no such account")]
    UserNotFound,
    #[error("the session is nobody's, over, or revoked")]
    Unauthorized,
    #[error("the device is online already")]
    AlreadyLoggedIn,
    #[error("the account has too many devices")]
    TooManyDevices,
    #[error(transparent)]
    Temporary(#[from] Temporary),
}

impl From<LoginError> for Refusal {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::TooManyDevices => Self::TooManyDevices,
            LoginError::SessionOver => Self::Unauthorized,
            LoginError::Store(error) => Self::Temporary(error.into()),
        }
    }
}

/// The names that are being registered at this manager: for the directory two claims of one login by one manager are the
/// same claim, and who gives it back would take the other's.
#[derive(Debug, Default)]
pub(crate) struct Registering(Mutex<HashSet<UserKey>>);

/// A name's only registration, for as long as it lasts.
#[derive(Debug)]
struct Turn<'a> {
    names: &'a Registering,
    name: UserKey,
}

impl Registering {
    /// None: somebody else is at it.
    fn begin(&self, name: &UserKey) -> Option<Turn<'_>> {
        let turn = || Turn { names: self, name: name.clone() };
        self.lock().insert(name.clone()).then(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<UserKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

impl Refusal {
    /// The packet that says so.
    pub(crate) fn reply(&self) -> &'static str {
        match self {
            Refusal::UsernameUsed => replies::USERNAME_USED,
            Refusal::BadRequest => replies::BAD_REQUEST,
            Refusal::UserNotFound => replies::USER_NOT_FOUND,
            Refusal::Unauthorized => replies::UNAUTHORIZED,
            Refusal::AlreadyLoggedIn => replies::ALREADY_LOGGED_IN,
            Refusal::TooManyDevices => replies::TOO_MANY_DEVICES,
            Refusal::Temporary(_) => replies::TEMPORARY_FAILURE,
        }
    }

    fn result(&self) -> AuthResult {
        match self {
            Refusal::UsernameUsed => AuthResult::UsernameUsed,
            Refusal::BadRequest => AuthResult::BadRequest,
            Refusal::UserNotFound => AuthResult::UserNotFound,
            Refusal::Unauthorized => AuthResult::Unauthorized,
            Refusal::AlreadyLoggedIn => AuthResult::AlreadyLoggedIn,
            Refusal::TooManyDevices => AuthResult::TooManyDevices,
            Refusal::Temporary(_) => AuthResult::Temporary,
        }
    }
}

impl Manager {
    /// Registers or logs in; the user is then online here.
    pub(crate) async fn authenticate(&self, auth: &Auth, client: Client) -> Result<Welcome, Refusal> {
        let result = match &auth.session {
            _ if auth.register => self.register(auth, client).await,
            Some(session) => self.come_back(auth, session, client).await,
            None => self.log_in(auth, client).await,
        };
        let outcome = match &result {
            Ok(_) if auth.register => AuthResult::Created,
            Ok(_) if auth.session.is_some() => AuthResult::CameBack,
            Ok(_) => AuthResult::LoggedIn,
            Err(refusal) => refusal.result(),
        };
        self.metrics.authenticated(outcome);
        tracing::Span::current().record("result", outcome.value());
        result
    }

    async fn register(&self, auth: &Auth, client: Client) -> Result<Welcome, Refusal> {
        let name = auth.username.as_deref().ok_or(Refusal::BadRequest)?;
        if self.is_taken(name).await? {
            return Err(Refusal::UsernameUsed);
        }
        let username = Username::register(name).map_err(|_| Refusal::BadRequest)?;
        let password = auth.password.as_ref().ok_or(Refusal::BadRequest)?;
        let device = auth.device.as_ref().ok_or(Refusal::BadRequest)?;
        // Nothing is stored for whom the directory could not take now: the same packet sent again would find the name
        // taken. Asked first, so that no hash is computed in vain; what decides is the claim.
        let key = username.key();
        self.takes_logins(&key).await?;
        let password_hash = self.passwords.hash(password.expose()).await.map_err(Temporary::from)?;
        client.is_there()?;
        let Some(_turn) = self.registering.begin(&key) else { return Err(Temporary::Unsettled.into()) };
        if self.is_taken(name).await? {
            return Err(Refusal::UsernameUsed);
        }
        let claimed = match self.claim(&username, (device, Older::Stays), FIRST_LOGIN, client.address).await {
            Err(Refusal::AlreadyLoggedIn) if self.is_taken(name).await? => return Err(Refusal::UsernameUsed),
            // Somebody else is about to have it.
            Err(Refusal::AlreadyLoggedIn) => return Err(Temporary::Unsettled.into()),
            claimed => claimed?,
        };
        let (bio, device) = (FIRST_BIO.to_owned(), device.clone());
        let session = self.new_session();
        let token = session.token.clone();
        let new =
            NewAccount { username, password_hash, bio, now_ms: now_ms(), device: device.clone(), session };
        match self.store.create_account(new).await {
            Ok(account) => Ok(self.go_online(&account, claimed, &token, client).await),
            Err(error) => {
                // Not released: the member goes on trying by itself.
                let _ = self.member.release_session(&key, &device, FIRST_LOGIN, SessionEnd::Lost).await;
                Err(match error {
                    CreateError::Taken => Refusal::UsernameUsed,
                    CreateError::Store(error) => Refusal::Temporary(error.into()),
                })
            }
        }
    }

    /// What is on record of `user`. An error: the directory would not take a login at this moment.
    async fn takes_logins(&self, user: &UserKey) -> Result<UserEntries, Temporary> {
        self.member.check().map_err(DirectoryError::from)?;
        self.entries_of(user).await
    }

    async fn is_taken(&self, name: &str) -> Result<bool, Temporary> {
        let Ok(key) = UserKey::of(name) else { return Ok(false) };
        // A good name that cannot be registered is a component's (PROTOCOL §0).
        Ok(Username::register(name).is_err() || self.store.account(&key).await?.is_some())
    }

    async fn log_in(&self, auth: &Auth, client: Client) -> Result<Welcome, Refusal> {
        let name = auth.username.as_deref().ok_or(Refusal::BadRequest)?;
        let password = auth.password.as_ref().ok_or(Refusal::BadRequest)?;
        let device = auth.device.as_ref().ok_or(Refusal::BadRequest)?;
        // A name that nobody could register is nobody's.
        let key = UserKey::of(name).map_err(|_| Refusal::UserNotFound)?;
        let account =
            self.store.account(&key).await.map_err(Temporary::from)?.ok_or(Refusal::UserNotFound)?;
        let right = self.passwords.verify(password.expose(), &account.password_hash).await;
        if !right.map_err(Temporary::from)? {
            return Err(Refusal::BadRequest);
        }
        // Hashing takes its time. A login ends the device's session: not for whom the directory could not take now.
        client.is_there()?;
        let entries = self.takes_logins(&key).await?;
        // The claim below decides; asking first keeps `updated_at` as it is for a login that is refused. That of a named
        // device is not: the older session gives way.
        if !device.is_named() && self.is_online(&key, device, &entries)? {
            return Err(Refusal::AlreadyLoggedIn);
        }
        let older = if device.is_named() { Older::GivesWay } else { Older::Stays };
        let session = self.new_session();
        let login = Login { device, now_ms: now_ms(), session: LoginSession::New(&session) };
        let login = self.store.record_login(account.id, &login, self.max_devices).await?;
        let claimed = self.claim(&account.username, (device, older), login, client.address).await?;
        Ok(self.go_online(&account, claimed, &session.token, client).await)
    }

    /// A login by the token of the last one (Part II `session`): no password, and no argon2.
    async fn come_back(&self, auth: &Auth, token: &Token, client: Client) -> Result<Welcome, Refusal> {
        let name = auth.username.as_deref().ok_or(Refusal::BadRequest)?;
        let named = auth.device.as_ref().ok_or(Refusal::BadRequest)?;
        let key = UserKey::of(name).map_err(|_| Refusal::UserNotFound)?;
        let account =
            self.store.account(&key).await.map_err(Temporary::from)?.ok_or(Refusal::UserNotFound)?;
        let token = SessionToken::parse(token.expose()).ok_or(Refusal::Unauthorized)?;
        // One that does not name its device is the token's.
        let of = Some(named).filter(|device| device.is_named());
        // Nothing is used up for whom the directory could not take now.
        self.takes_logins(&key).await?;
        client.is_there()?;
        let used = self.store.use_session(account.id, &token, of, now_ms(), self.session_life_ms).await;
        let (device, next) = match used.map_err(Temporary::from)? {
            SessionUse::Renewed { device, next, again } => {
                if again {
                    client.stays().await?;
                }
                (device, next)
            }
            SessionUse::Older(device) => {
                client.stays().await?;
                self.stolen(&key, &device, (&account, &token)).await?;
                return Err(Refusal::Unauthorized);
            }
            SessionUse::Refused => {
                let address = client.address;
                tracing::info!(user = %key, %address, "a session token is nobody's, over, or of another device");
                return Err(Refusal::Unauthorized);
            }
        };
        client.is_there()?;
        let login = Login { device: &device, now_ms: now_ms(), session: LoginSession::Next(&next) };
        let login = self.store.record_login(account.id, &login, None).await?;
        let device = (&device, Older::GivesWay);
        let claimed = self.claim(&account.username, device, login, client.address).await?;
        Ok(self.go_online(&account, claimed, &next, client).await)
    }

    /// Who has this token is not alone in that.
    async fn stolen(
        &self,
        user: &UserKey,
        device: &Resource,
        (account, token): (&Account, &SessionToken),
    ) -> Result<(), Temporary> {
        tracing::warn!(%user, %device, "an old session token was used: the device's session is revoked");
        let known = self.member.directory().user(user).await.map_err(Temporary::from)?;
        self.store.revoke_family(account.id, token).await?;
        // Somebody may have logged in meanwhile.
        let newest = self.store.account(user).await?.map_or(account.login, |account| account.login);
        self.end_device((user, device), newest, known, None).await;
        Ok(())
    }

    fn new_session(&self) -> NewToken {
        NewToken { token: SessionToken::first(), expires_ms: now_ms().saturating_add(self.session_life_ms) }
    }

    fn is_online(&self, user: &UserKey, device: &Resource, entries: &UserEntries) -> Result<bool, Temporary> {
        if self.sessions.get(user, device).is_some() {
            return Ok(true);
        }
        let session = entries.sessions.iter().find(|(resource, _)| resource == device);
        let Some((_, session)) = session else { return Ok(false) };
        // On record as ours, and nobody is logged in here: it begins or ends at this moment.
        if session.generation == self.member.generation() {
            return Err(Temporary::Unsettled);
        }
        Ok(true)
    }

    /// Has the directory put a login on record.
    async fn claim(
        &self,
        username: &Username,
        (device, older): (&Resource, Older),
        login: LoginId,
        address: IpAddr,
    ) -> Result<Claimed<'_>, Refusal> {
        let session = NewSession {
            username: username.to_string(),
            login,
            since_ms: now_ms(),
            client_address: address,
            presence_counter: 0,
            displaces: older == Older::GivesWay,
        };
        let user = username.key();
        let under_way = self.sessions.begin(&user, device, login);
        let claim = self.member.claim_session(&user, device, session.clone()).await;
        match claim.map_err(Temporary::from)? {
            SessionClaim::Granted { generation, displaced } => {
                Ok(Claimed { device: device.clone(), session, generation, displaced, under_way })
            }
            SessionClaim::AlreadyLoggedIn => Err(Refusal::AlreadyLoggedIn),
            // Its device was removed, or a later login of it has come and gone.
            SessionClaim::Ended => Err(Temporary::Unsettled.into()),
        }
    }

    async fn go_online(
        &self,
        account: &Account,
        claimed: Claimed<'_>,
        token: &SessionToken,
        client: Client,
    ) -> Welcome {
        let Claimed { device, session, generation, displaced, under_way } = claimed;
        let online = Online::new(account, device, &self.domain, &session, generation, client.outbox);
        let online = Arc::new(online);
        let inserted = self.sessions.insert(Arc::clone(&online));
        drop(under_way);
        match inserted {
            Ok(None) => {}
            Ok(Some(older)) => {
                // The directory gave its place away, so it was ended there and only its connection is left.
                older.close_for_conflict();
                self.end_relay_connection(&older, EndOfRelay::Conflict).await;
            }
            Err(over) => Box::pin(self.over_at_once(&online, over)).await,
        }
        for older in displaced.iter().filter(|older| older.generation != generation) {
            self.peers.displaced(older.generation, &online, older.login);
            // Whoever was shown the device there has to know that it is here.
            self.owe_unless(false, &online);
        }
        if self.member.check().is_ok_and(|current| current != generation) {
            // Renewed between the claim and now: that round may have passed this session by.
            self.restore_soon(&online).await;
        }
        Welcome { online, session: Token::new(token.expose()) }
    }
}

#[cfg(test)]
mod tests;
