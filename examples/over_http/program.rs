//! The program itself, as a process manager sees it: its variables, what it prints, and how it ends when it is told to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::client::Connection;

const FROM_BEFORE: &str = "legacy-7Fh2kQ9zXw4VbN8mT3cYpL6rQeJuD5Ga";

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let master_key = "8102d344a506f70819ea0b8c0d7e0f109112c31415b61718f91a2b1c9d1e3f20";
    command.env("KEYROTA_MASTER_KEY", master_key).env("ORDERS_KEYS", folder.join("keys.db"));
    command.env("ORDERS_ADDRESS", "127.0.0.1:0").env_remove("API_KEYS");
    command
}

/// A program that serves; it is ended with the test.
struct Serving {
    child: Child,
    told: Vec<String>,
    address: std::net::SocketAddr,
}

impl Serving {
    /// Once it serves; or what it told where it has ended instead.
    fn begin(mut command: Command) -> Result<Self, Vec<String>> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = Vec::new();
        for line in lines {
            told.push(line.unwrap());
            if let Some(address) = told.last().and_then(|line| line.strip_prefix("serving on ")) {
                let address = address.parse().unwrap();
                return Ok(Self { child, told, address });
            }
        }
        assert!(!child.wait().unwrap().success(), "{told:?}");
        Err(told)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Whatever has ended already cannot be ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn the_program_issues_takes_over_serves_and_ends_when_it_is_told(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let issued =
        command(program, folder.path()).args(["issue", "ada", "ci", "orders:read"]).output().unwrap();
    assert!(issued.status.success(), "{issued:?}");
    let token = String::from_utf8(issued.stdout).unwrap().trim_end().to_owned();
    for signal in ["-TERM", "-INT"] {
        let mut with_list = command(program, folder.path());
        with_list.env("API_KEYS", format!("shop:{FROM_BEFORE}"));
        let mut serving = Serving::begin(with_list).unwrap_or_else(|told| panic!("{told:?}"));
        let took = if signal == "-TERM" { 1 } else { 0 };
        assert_eq!(serving.told[0], format!("took over {took} of the 1 tokens in API_KEYS"));
        let mut connection = Connection::open(serving.address);
        for token in [token.as_str(), FROM_BEFORE] {
            assert_eq!(connection.get("/orders", token).status, 200);
        }
        assert_eq!(connection.get("/orders", "legacy-nobody-has-this").status, 401);
        let id = serving.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert!(serving.child.wait().unwrap().success(), "an end in good order");
        assert!(connection.is_closed());
    }
}

/// A token that cannot be taken over would shut its client out: so the instance does not begin.
pub fn the_program_does_not_begin_without_a_token_of_its_list(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut with_list = command(program, folder.path());
    let long = "x".repeat(513);
    with_list.env("API_KEYS", format!("{FROM_BEFORE} {long}"));
    let told = Serving::begin(with_list).err().expect("it does not serve").join("\n");
    assert!(told.contains("longer than 512 bytes"), "{told}");
    assert!(!told.contains(&long) && !told.contains(FROM_BEFORE), "{told}");
}
