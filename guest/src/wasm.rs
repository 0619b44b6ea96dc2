//! The component: exports and imports of `wit/` around [`Interpreter`] and [`Host`].
//!
//! The interpreter lives in a thread-local, which on this target is plain memory. `build` leaves it there, the
//! host captures that memory, and `handle` finds it again in every instance that starts from it. Nothing is
//! borrowed and nothing needed is on the stack when an export returns.
#![expect(unsafe_code, reason = "generated bindings, the allocator and the capture; see the modules")]

use std::{cell::RefCell, rc::Rc};

use crate::{Host, Interpreter};

mod alloc;
mod capture;
mod convert;
mod host;
mod panic;

#[expect(clippy::pedantic, reason = "generated from wit/")]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "interpreter", generate_all });
}

use bindings::exports::picloud::runtime::{
    builder::{self, Built},
    handler::{self, Answer, Event, Fault},
};

thread_local! {
    static INTERPRETER: RefCell<Option<Interpreter>> = const { RefCell::new(None) };
}

struct Component;

impl builder::Guest for Component {
    fn prepare() {
        panic::install();
        INTERPRETER.set(Some(Interpreter::new(Rc::new(host::Imports) as Rc<dyn Host>)));
    }

    fn build(name: String, source: String) -> Result<Built, Fault> {
        if INTERPRETER.with_borrow(Option::is_none) {
            Self::prepare();
        }
        let built = INTERPRETER.with_borrow_mut(|interpreter| match interpreter {
            Some(interpreter) => interpreter.build(&name, &source),
            None => Err(not_prepared()),
        });
        built.map(convert::built).map_err(convert::fault)
    }

    fn snapshot() {
        capture::capture();
    }
}

impl handler::Guest for Component {
    fn handle(event: Event) -> Result<Answer, Fault> {
        let answer = INTERPRETER.with_borrow(|interpreter| match interpreter {
            Some(interpreter) => interpreter.handle(convert::event(event)),
            None => Err(not_prepared()),
        });
        answer.map(convert::answer).map_err(convert::fault)
    }
}

fn not_prepared() -> crate::Fault {
    crate::Fault { code: "no_handler".into(), message: "no script is loaded".into(), position: None }
}

bindings::export!(Component with_types_in bindings);
