//! `topic::`: publications, which every trigger gets whose pattern matches their topic.

use std::rc::Rc;

use rhai::Dynamic;

use super::{Context, Part, from_host};
use crate::{
    json,
    raise::{Outcome, invalid},
};

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("topic");
    let shared = context.clone();
    part.add("publish(topic, body)", move |topic: &str, body: Dynamic| publish(&shared, topic, &body));
    part
}

fn publish(context: &Context, topic: &str, body: &Dynamic) -> Outcome<String> {
    let host = context.host("topic::publish")?;
    let body = json::write_body(body).map_err(|problem| invalid(format!("topic::publish: {problem}")))?;
    from_host(host.publish(topic, &body))
}
