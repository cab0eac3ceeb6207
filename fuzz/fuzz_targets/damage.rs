#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wally_fuzz::damage::run(bytes, wally_fuzz::folder());
});
