#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| irisgpu::fuzzing::run("plan", bytes));
