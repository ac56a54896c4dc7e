//! The binary `shoal`; see [`shoal_server::cli`].

fn main() -> std::process::ExitCode {
    shoal_server::cli::main()
}
