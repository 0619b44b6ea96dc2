//! The Rhai interpreter that runs in the sandbox.
//!
//! All of it builds and is tested natively; [`wasm`](self) targets add a thin layer that gives the exports and
//! imports of `wit/` to [`Interpreter`] and [`Host`]. What a script can do is documented in docs/SCRIPTING.md.
//!
//! What does not live here: limits that only the sandbox can hold (fuel, memory, time, budgets of host calls).

#![expect(clippy::unnecessary_box_returns, reason = "Rhai's functions give boxed errors, and so do ours")]

mod answer;
mod api;
mod compile;
mod constants;
mod event;
mod fault;
mod fetched;
mod host;
mod interpreter;
mod json;
mod limits;
mod names;
mod program;
mod raise;
mod request;
mod syntax;
mod uses;
#[cfg(target_family = "wasm")]
mod wasm;

pub use event::{Answer, Event, Fault, HttpRequest, HttpResponse, SourcePosition, TriggerKind};
pub use host::{
    FileInfo, Host, HostError, IncomingAnswer, KvEntry, LogLevel, MessageOptions, OutgoingMail,
    OutgoingRequest,
};
pub use interpreter::{Built, Interpreter};
pub use uses::{UseKind, Used, Uses};
