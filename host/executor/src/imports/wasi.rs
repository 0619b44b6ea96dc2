//! `wasi:clocks/wall-clock` and `wasi:random/random`, answered by wasmtime-wasi's own clock and generator and
//! counted as host calls. Neither may be frozen into an image.

use wasmtime::Result;
use wasmtime_wasi::{clocks::wall_clock, p2::bindings::random::random::Host as _, random::WasiRandomCtx};

use super::running;
use crate::{
    bindings::wasi::{
        clocks::wall_clock::{Datetime, Host as WallClockHost},
        random::random::Host as RandomHost,
    },
    state::State,
};

impl WallClockHost for State {
    fn now(&mut self) -> Result<Datetime> {
        running(self)?.shared.charge_call(size_of::<Datetime>())?;
        let now = wall_clock().now();
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }
}

impl RandomHost for State {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        running(self)?.shared.charge_call(usize::try_from(len).unwrap_or(usize::MAX))?;
        self.random.get_or_insert_with(WasiRandomCtx::default).get_random_bytes(len)
    }
}
