//! A random script of all operations of an operator, in every order and over both storages.
//!
//! There is no second operator to compare with: the target checks rules that hold for every script. It
//! records its inputs and the operator's answers, and derives the possible outputs from them alone.
#![no_main]

use inflight_core::{Fixed, Heap};
use inflight_fuzz::bytes::Bytes;
use inflight_fuzz::life::{Life, Origin, Restart};
use inflight_fuzz::policy::{Built, Policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    let fixed = bytes.flag();
    let policy = Policy::read(&mut bytes, if fixed { Fixed::<8>::MOST } else { Heap::MOST });
    let mut next = Some(Restart { policy, fixed, origin: Origin::default() });
    while let Some(restart) = next {
        next = if restart.fixed {
            Life::<Fixed<8>>::start(restart, &mut bytes).run()
        } else {
            Life::<Heap>::start(restart, &mut bytes).run()
        };
    }
});
