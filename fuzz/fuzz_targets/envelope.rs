#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagevault_fuzz::envelope(data));
