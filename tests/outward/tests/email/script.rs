//! A mail server that says what a test wants it to, over a socket: for all that no real one does.

use std::time::Duration;

use keyrota::{Email, EmailAddress, EmailBuilder, Notification, Notifier, NotifyError};

use crate::support::hostile::{Connection, Server};
use crate::support::{START, at, builder, new_key};

pub(crate) const IN_ALL: Duration = Duration::from_millis(600);

/// Some notification.
pub(crate) fn told() -> Notification {
    let (queue, inbox) = keyrota::InApp::queue(10);
    let keys = builder(&keyrota::ManualClock::new(at(START))).channel("in", queue).open().unwrap();
    keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
    keys.deliver("in").unwrap();
    inbox.recv().unwrap()
}

pub(crate) fn email(server: &Server) -> EmailBuilder {
    let address = |text| EmailAddress::new(text).unwrap();
    let email = Email::builder("127.0.0.1", address("keys@example.com"), address("ada@example.org"));
    email.port(server.address.port()).time_limits(IN_ALL / 2, IN_ALL)
}

pub(crate) fn tell(server: &Server) -> Result<(), NotifyError> {
    email(server).allow_unencrypted().build().unwrap().notify(&told())
}

/// Answers each line that begins like this in this way; what is not among them with 250.
pub(crate) fn answering(answers: &'static [(&'static str, &'static str)]) -> Server {
    Server::new(move |mut connection| {
        let answer = |line: &str| {
            let of = |(begin, _): &&(&str, &str)| line.starts_with(begin);
            answers.iter().find(of).map_or("250 ok\r\n", |(_, answer)| *answer)
        };
        connection.say(if answers.iter().any(|(begin, _)| *begin == "!") {
            answer("!")
        } else {
            "220 hello\r\n"
        });
        loop {
            let line = connection.line();
            if line.is_empty() || line.starts_with("QUIT") {
                return connection.close();
            }
            let is_data = line.starts_with("DATA");
            let reply = answers.iter().find(|(begin, _)| line.starts_with(begin)).map(|(_, answer)| *answer);
            connection.say(reply.unwrap_or(if is_data { "354 go on\r\n" } else { answer(&line) }));
            if is_data && reply.is_none() {
                hear_mail(&mut connection);
                connection.say(answer("."));
            }
        }
    })
}

fn hear_mail(connection: &mut Connection) {
    while !matches!(connection.line().as_str(), ".") {}
}
