//! Telling by mail.

mod address;
mod alarms;
mod dialogue;
mod mail;
mod message;
mod stream;
mod words;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::clock::{Clock, Deadline, SystemClock};
use crate::id::NotificationId;
use crate::notification::Notification;
use crate::notify::{Notifier, NotifyError};
use crate::secret::SecretBuffer;

pub use address::{EmailAddress, EmailAddressError, Recipients};
use dialogue::{Broken, Dialogue, Login, Sent};
pub use mail::{Mail, MailTemplate, StandardMail};
use stream::Stream;

/// After a minute another process may try the same notification.
const LONGEST: Duration = Duration::from_secs(45);
/// How many mails are remembered that some have got while others have not.
const REMEMBERED: usize = 1_000;

/// Telling by mail cannot be set up like this.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmailError {
    /// The server's name is no host name or address.
    #[error("the mail server's name is neither a host name nor an address")]
    Host,
    /// The user's name or the password is empty, or longer than 500 bytes.
    #[error("the user's name or the password for the mail server is empty or longer than 500 bytes")]
    Login,
    /// A password would be sent without encryption.
    #[error("a password is not sent without encryption; log in by TLS or STARTTLS, or not at all")]
    LoginUnencrypted,
    /// The text holds no certificate in the PEM form.
    #[error("the trusted certificates hold none in the PEM form, or one that cannot be read")]
    Certificates,
    /// A time limit is zero or longer than 45 seconds.
    #[error("a time limit is zero or longer than 45 seconds, after which another process may try as well")]
    TimeLimit,
}

crate::text::debug_as_told!(EmailError);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    StartTls,
    Tls,
    None,
}

/// Tells notifications by mail, through your mail server (SMTP).
///
/// * **To whom:** what [`Recipients`] says for the owner; a mail of its own for each, so that none sees another's address.
/// * **What:** what a [`MailTemplate`] writes, [`StandardMail`] unless another is given.
/// * **How:** `STARTTLS` on port 587, unless [`tls`](EmailBuilder::tls). A server that offers none gets no mail, unless
///   [`allow_unencrypted`](EmailBuilder::allow_unencrypted).
/// * **How long:** 10 seconds to connect and 30 in all, besides the time that the system takes to look a name up.
/// * **When it is refused:** a recipient whom the server refuses for good (5xx, but for a full mailbox and a log-in that is missing) makes the
///   notification a dead letter, once all others have theirs. Everything else is tried again: 4xx, no connection, a wrong
///   certificate, a log-in that fails. This process does not send it again to those who have it, unless it is restarted.
pub struct Email {
    host: String,
    port: u16,
    security: Security,
    tls: Arc<ClientConfig>,
    login: Option<Login>,
    from: EmailAddress,
    recipients: Arc<dyn Recipients>,
    template: Arc<dyn MailTemplate>,
    clock: Arc<dyn Clock>,
    to_connect: Duration,
    in_all: Duration,
    /// Who has got a notification that is to be tried again for others, the oldest first.
    have_it: Mutex<VecDeque<(NotificationId, EmailAddress)>>,
}

/// Settings of an [`Email`].
#[must_use]
pub struct EmailBuilder {
    host: String,
    port: Option<u16>,
    security: Security,
    certificates: Option<String>,
    login: Option<Login>,
    from: EmailAddress,
    recipients: Arc<dyn Recipients>,
    template: Arc<dyn MailTemplate>,
    clock: Arc<dyn Clock>,
    to_connect: Duration,
    in_all: Duration,
}

impl Email {
    /// Mails from this address, through the mail server of this name, to whom `recipients` says.
    pub fn builder(host: impl Into<String>, from: EmailAddress, recipients: impl Recipients) -> EmailBuilder {
        EmailBuilder {
            host: host.into(),
            port: None,
            security: Security::StartTls,
            certificates: None,
            login: None,
            from,
            recipients: Arc::new(recipients),
            template: Arc::new(StandardMail),
            clock: Arc::new(SystemClock),
            to_connect: Duration::from_secs(10),
            in_all: Duration::from_secs(30),
        }
    }
}

impl EmailBuilder {
    /// TLS from the first byte on, on port 465, in place of `STARTTLS`.
    pub fn tls(mut self) -> Self {
        self.security = Security::Tls;
        self
    }

    /// Allows mails without encryption, on port 25: to a server in the same machine. Nobody can log in then.
    pub fn allow_unencrypted(mut self) -> Self {
        self.security = Security::None;
        self
    }

    /// Another port than the usual one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Logs in as this user. The password is copied, and wiped on drop; the caller wipes its own.
    pub fn login(mut self, user: impl Into<String>, password: &str) -> Self {
        let password = SecretBuffer::concat(&[password.as_bytes()]);
        self.login = Some(Login { user: user.into(), password });
        self
    }

    /// Trusts these authorities, in the PEM form, and no others. Default: those that Mozilla trusts.
    pub fn trust_only(mut self, pem: impl Into<String>) -> Self {
        self.certificates = Some(pem.into());
        self
    }

    /// Writes the mails in place of [`StandardMail`].
    pub fn template(mut self, template: impl MailTemplate) -> Self {
        self.template = Arc::new(template);
        self
    }

    /// How long to wait at most until a connection stands, and how long in all, 45 seconds at most. Default: 10 and 30
    /// seconds.
    pub fn time_limits(mut self, to_connect: Duration, in_all: Duration) -> Self {
        (self.to_connect, self.in_all) = (to_connect, in_all);
        self
    }

    /// The clock by which mails are dated. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The notifier. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`EmailError`].
    pub fn build(self) -> Result<Email, EmailError> {
        if rustls::pki_types::ServerName::try_from(self.host.as_str()).is_err() {
            return Err(EmailError::Host);
        }
        if let Some(Login { user, password }) = &self.login {
            let lengths = [user.len(), password.expose().len()];
            if !lengths.iter().all(|length| (1..=500).contains(length)) || user.contains('\0') {
                return Err(EmailError::Login);
            }
            if self.security == Security::None {
                return Err(EmailError::LoginUnencrypted);
            }
        }
        if [self.to_connect, self.in_all].iter().any(|limit| limit.is_zero() || *limit > LONGEST) {
            return Err(EmailError::TimeLimit);
        }
        let usual = match self.security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        Ok(Email {
            tls: Arc::new(tls(self.certificates.as_deref())?),
            host: self.host,
            port: self.port.unwrap_or(usual),
            security: self.security,
            login: self.login,
            from: self.from,
            recipients: self.recipients,
            template: self.template,
            clock: self.clock,
            to_connect: self.to_connect,
            in_all: self.in_all,
            have_it: Mutex::default(),
        })
    }
}

/// Whom to believe: these and nobody else, or else whom Mozilla does.
fn roots(pem: Option<&str>) -> Result<RootCertStore, EmailError> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = pem else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| EmailError::Certificates)?;
        roots.add(certificate).map_err(|_| EmailError::Certificates)?;
    }
    (!roots.is_empty()).then_some(roots).ok_or(EmailError::Certificates)
}

fn tls(pem: Option<&str>) -> Result<ClientConfig, EmailError> {
    let roots = roots(pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // The provider knows the versions that it was built with.
    let config = config.map_err(|_| EmailError::Certificates)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Email {
    fn have_it(&self) -> MutexGuard<'_, VecDeque<(NotificationId, EmailAddress)>> {
        // Whoever panicked has at worst left out that somebody has a mail.
        self.have_it.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<Dialogue, Broken> {
        let deadline = Deadline::after(self.in_all);
        let mut stream = Stream::connect(&self.host, self.port, self.to_connect, deadline)?;
        if self.security == Security::Tls {
            stream = stream.encrypted(&self.host, &self.tls)?;
        }
        let hello = ClientId::Domain(self.from.domain().to_owned());
        let mut dialogue = Dialogue::begin(stream, hello)?;
        if self.security == Security::StartTls {
            dialogue = dialogue.start_tls(&self.host, &self.tls)?;
        }
        if let Some(login) = &self.login {
            dialogue.log_in(login)?;
        }
        Ok(dialogue)
    }

    /// Sends the mail to all who have not got it yet, and says what became of each.
    fn send(&self, told: &Notification, to: &[EmailAddress]) -> Result<Vec<Sent>, Broken> {
        let mail = self.template.mail(told);
        let mut dialogue = self.begin()?;
        let mut sent = Vec::with_capacity(to.len());
        for recipient in to {
            let knows = |(id, address): &(_, _)| *id == told.id && address == recipient;
            if self.have_it().iter().any(knows) {
                sent.push(Sent::Accepted);
                continue;
            }
            let now = self.clock.now();
            let Ok(bytes) = message::message(&self.from, recipient, mail.clone(), told, now) else {
                sent.push(Sent::Never("the mail is too long".to_owned()));
                continue;
            };
            let became = dialogue.send(&self.from, recipient, &bytes)?;
            if became == Sent::Accepted && to.len() > 1 {
                let mut have_it = self.have_it();
                have_it.push_back((told.id, recipient.clone()));
                if have_it.len() > REMEMBERED {
                    have_it.pop_front();
                }
            }
            sent.push(became);
        }
        dialogue.end();
        Ok(sent)
    }
}

impl Notifier for Email {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let mut to = self.recipients.of(notification.owner)?;
        to.sort_unstable();
        to.dedup();
        if to.is_empty() {
            return Ok(());
        }
        let sent = self.send(notification, &to).map_err(|error| NotifyError::retry(error.to_string()))?;
        if let Some(why) =
            sent.iter().find_map(|sent| if let Sent::NotNow(why) = sent { Some(why) } else { None })
        {
            return Err(NotifyError::retry(format!("the mail server said: {why}")));
        }
        self.have_it().retain(|(id, _)| *id != notification.id);
        let never: Vec<_> = sent
            .iter()
            .filter_map(|sent| if let Sent::Never(why) = sent { Some(why) } else { None })
            .collect();
        match never.first() {
            None => Ok(()),
            Some(why) => Err(NotifyError::permanent(format!(
                "{} of {} recipients refused for good: {why}",
                never.len(),
                to.len()
            ))),
        }
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, security, from, .. } = self;
        let mut debug = f.debug_struct("Email");
        debug.field("host", host).field("port", port).field("security", security).field("from", from);
        debug.finish_non_exhaustive()
    }
}

impl fmt::Debug for EmailBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailBuilder").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server of the tests could not show: none has a certificate of a public authority.
    #[test]
    fn whoever_names_an_authority_trusts_that_one_and_nobody_else() {
        let one = include_str!("../authority.pem");
        assert_eq!(roots(Some(one)).unwrap().len(), 1);
        assert_eq!(roots(None).unwrap().len(), webpki_roots::TLS_SERVER_ROOTS.len());
        assert_eq!(roots(Some("")).map(drop), Err(EmailError::Certificates));
    }
}
