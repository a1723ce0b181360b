//! `kubectl mapa`: what a person or a script asks of the policies of a cluster.

use std::process::ExitCode;

use clap::Parser;
use mapa_refresh_operator::plugin::{self, arguments::Arguments};

fn main() -> ExitCode {
    plugin::run(&Arguments::parse())
}
