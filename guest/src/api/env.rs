//! `env::`: plain variables of the app.

use std::rc::Rc;

use rhai::Dynamic;

use super::{Context, Part, from_host};

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("env");
    let shared = context.clone();
    part.add("get(name)", move |name: &str| {
        Ok(from_host(shared.host("env::get")?.variable(name))?.map_or(Dynamic::UNIT, Dynamic::from))
    });
    let shared = context.clone();
    part.add("get(name, default)", move |name: &str, default: Dynamic| {
        Ok(from_host(shared.host("env::get")?.variable(name))?.map_or(default, Dynamic::from))
    });
    part
}
