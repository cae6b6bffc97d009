//! Runs inputs through a target without libFuzzer and its sanitizer, for a debugger or a clock:
//! `cargo run --release --manifest-path fuzz/Cargo.toml --example replay -- TARGET FILE...`

use std::time::Instant;

const TARGETS: [(&str, fn(&[u8])); 16] = [
    ("envelope", pagevault_fuzz::envelope),
    ("vault_config", pagevault_fuzz::vault_config),
    ("key_slot", pagevault_fuzz::key_slot),
    ("keyring", pagevault_fuzz::keyring),
    ("directory", pagevault_fuzz::directory),
    ("index", pagevault_fuzz::index),
    ("manifest", pagevault_fuzz::manifest),
    ("log", pagevault_fuzz::log),
    ("fields", pagevault_fuzz::fields),
    ("key_text", pagevault_fuzz::key_text),
    ("snapshot_spec", pagevault_fuzz::snapshot_spec),
    ("names", pagevault_fuzz::names),
    ("database_header", pagevault_fuzz::database_header),
    ("codec", pagevault_fuzz::codec),
    ("hostile_vault", pagevault_fuzz::hostile_vault),
    ("hostile_image", pagevault_fuzz::hostile_image),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a target");
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a known target");
    for file in arguments {
        let input = std::fs::read(&file).expect("a readable file");
        let start = Instant::now();
        target(&input);
        println!("{file}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    }
}
