//! `cygnetd`; all of it is in the library.

fn main() -> std::process::ExitCode {
    cygnet_agent::main()
}
