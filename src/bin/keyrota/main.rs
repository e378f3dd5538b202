//! `keyrota`, the command line: it carries what people write to the library and what the library answers back.
//! Whatever decides is the library's.

mod args;
mod audit;
mod claim;
mod compliance;
mod doctor;
mod failure;
mod find;
mod import;
mod init;
mod issue;
mod keyring_file;
mod keys;
mod master_key;
mod notifications;
mod out;
mod owner;
mod place;
mod policy;
mod policy_args;
mod revoke;
mod role;
mod rotate;
mod schedule;
mod simulate;
mod table;
mod terminal;
mod tick;
mod token;
mod upkeep;
mod usage;
mod validate;
mod values;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, Command};
use crate::failure::{Done, Failure};
use crate::out::Out;

fn main() -> ExitCode {
    if let Err(failure) = args::without_tokens() {
        return end(&failure, false);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if let Some(failure) = args::stray(&error) {
                return end(&failure, std::env::args_os().any(|argument| argument == "--json"));
            }
            // Before the arguments are understood, nothing but their text says which form an answer is to have.
            if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
                return end(&Failure::Usage(error.to_string().trim_end().to_owned()), true);
            }
            // Help that nobody reads is no failure.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // A full disk is then told by the write that meets it, instead of by a signal that ends the process.
    #[cfg(unix)]
    drop(signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default()));
    let json = arguments.place.json;
    match run(&arguments, &mut Out::new(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure, json),
    }
}

/// Tells a failure on standard error, and its exit code.
fn end(failure: &Failure, json: bool) -> ExitCode {
    if let Some(text) = failure.text() {
        let told = if json {
            serde_json::json!({ "error": text, "exit_code": failure.code() }).to_string()
        } else {
            format!("keyrota: {text}")
        };
        drop(writeln!(io::stderr(), "{told}"));
    }
    ExitCode::from(failure.code())
}

fn run(arguments: &Arguments, out: &mut Out) -> Done {
    let place = &arguments.place;
    match &arguments.command {
        Command::Init(args) => args.run(place, out),
        Command::Issue(args) => args.run(place, out),
        Command::Validate(args) => args.run(place, out),
        Command::List(args) => args.run(place, out),
        Command::Show(args) => args.run(place, out),
        Command::Edit(args) => args.run(place, out),
        Command::Rotate(args) => args.run(place, out),
        Command::Claim(args) => args.run(place, out),
        Command::Waiting(args) => args.run(place, out),
        Command::Schedule(args) => args.run(place, out),
        Command::Cancel(args) => args.run(place, out),
        Command::Deprecate(args) => args.run(place, out),
        Command::Rollback(args) => args.run(place, out),
        Command::Revoke(args) => args.run(place, out),
        Command::Replace(args) => args.run(place, out),
        Command::Compromised(args) => args.run(place, out),
        Command::Find(args) => args.run(place, out),
        Command::Owner { command } => command.run(place, out),
        Command::Role { command } => command.run(place, out),
        Command::Policy { command } => command.run(place, out),
        Command::Tick(args) => args.run(place, out),
        Command::Plan(args) => args.run(place, out),
        Command::Simulate(args) => args.run(place, out),
        Command::Audit { command } => command.run(place, out),
        Command::Usage(args) => args.run(place, out),
        Command::Stale(args) => args.run(place, out),
        Command::Compliance(args) => args.run(place, out),
        Command::Import(args) => args.run(place, out),
        Command::Notifications { command } => command.run(place, out),
        Command::Cleanup(args) => args.run(place, out),
        Command::Backup(args) => args.run(place, out),
        Command::Restore(args) => args.run(place, out),
        Command::MasterKey { command } => command.run(place, out),
        Command::Doctor(args) => args.run(place, out),
        Command::Completions(args) => args.run(out),
    }
}
