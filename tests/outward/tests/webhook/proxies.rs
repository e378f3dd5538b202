//! Proxies that the environment names are not for webhooks: their addresses would be nobody's to check.

use std::process::Command;

use keyrota::{Notifier, Webhook, WebhookSecret};

use crate::certificates::told;
use crate::support::hostile::Server;
use crate::support::loopback;
use crate::support::receiver::Receiver;

const URL: &str = "KEYROTA_TEST_RECEIVER";

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let (receiver, proxy) = (Receiver::new(None), Server::new(|mut connection| connection.request()));
    // The environment is a process's own, so another process has to be asked.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "proxies::tells_a_receiver_that_the_environment_names"]);
    let by = format!("http://127.0.0.1:{}", proxy.address.port());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &by).env(name.to_lowercase(), &by);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env(URL, receiver.url("http"));
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((receiver.received().len(), proxy.connections()), (1, 0));
}

#[test]
#[ignore = "run by the test above, in an environment of its own"]
fn tells_a_receiver_that_the_environment_names() {
    let webhook = Webhook::builder(std::env::var(URL).unwrap(), WebhookSecret::generate().unwrap());
    let webhook = webhook.allow_http().allow_networks(loopback()).build().unwrap();
    webhook.notify(&told()).unwrap();
}
