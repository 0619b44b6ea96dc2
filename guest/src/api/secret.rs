//! `secret::`: secrets that the script declares.

use std::rc::Rc;

use super::{Context, Part, from_host};

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("secret");
    let shared = context.clone();
    part.add("get(name)", move |name: &str| from_host(shared.host("secret::get")?.secret(name)));
    part
}
