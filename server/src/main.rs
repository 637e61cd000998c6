//! `imppd`. The commands are in `impp_server::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    impp_server::cli::main()
}
