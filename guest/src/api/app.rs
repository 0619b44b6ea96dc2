//! `app::`: other scripts of the same app.

use std::rc::Rc;

use rhai::Dynamic;

use super::{Context, Part, from_host};
use crate::{
    json,
    raise::{Outcome, invalid},
};

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("app");
    let shared = context.clone();
    part.add("invoke(script, event)", move |script: &str, event: Dynamic| invoke(&shared, script, &event));
    let shared = context.clone();
    part.add("invoke(script)", move |script: &str| invoke(&shared, script, &Dynamic::UNIT));
    part
}

fn invoke(context: &Context, script: &str, event: &Dynamic) -> Outcome<Dynamic> {
    let host = context.host("app::invoke")?;
    let event =
        json::stringify(event).map_err(|problem| invalid(format!("app::invoke: the event {problem}")))?;
    let answer = from_host(host.invoke(script, &event))?;
    json::parse(&answer)
        .map_err(|problem| invalid(format!("app::invoke: `{script}` gave no JSON: {problem}")))
}
