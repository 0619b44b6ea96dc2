//! `email::`: mail to people. Whether an address is one is the host's to say.

use std::rc::Rc;

use rhai::{Array, Dynamic, Map};

use super::{Context, Part, from_host, optional_text, unknown_option, wrong_type};
use crate::{
    OutgoingMail,
    raise::{Outcome, invalid},
};

const SEND: &str = "email::send";

const FIELDS: [&str; 9] =
    ["to", "cc", "bcc", "reply_to", "from_name", "subject", "text", "html", "in_reply_to"];

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("email");
    let shared = context.clone();
    part.add("send(mail)", move |mail: Map| {
        let host = shared.host(SEND)?;
        from_host(host.mail(read(mail)?))
    });
    part
}

fn read(fields: Map) -> Outcome<OutgoingMail> {
    let mut mail = OutgoingMail::default();
    for (name, value) in fields {
        match name.as_str() {
            "to" => mail.to = receivers("to", value)?,
            "cc" => mail.cc = receivers("cc", value)?,
            "bcc" => mail.bcc = receivers("bcc", value)?,
            "subject" => mail.subject = optional_text(SEND, "subject", &value)?.unwrap_or_default(),
            "reply_to" => mail.reply_to = optional_text(SEND, "reply_to", &value)?,
            "from_name" => mail.from_name = optional_text(SEND, "from_name", &value)?,
            "text" => mail.text = optional_text(SEND, "text", &value)?,
            "html" => mail.html = optional_text(SEND, "html", &value)?,
            "in_reply_to" => mail.in_reply_to = optional_text(SEND, "in_reply_to", &value)?,
            "from" => {
                return Err(invalid(format!(
                    "{SEND}: `from` is the app's own address; `from_name` is the name beside it, and `reply_to` \
                     where answers go"
                )));
            }
            "body" => {
                return Err(invalid(format!("{SEND}: the body is given as `text`, as `html`, or as both")));
            }
            other => return Err(unknown_option(SEND, other, &FIELDS)),
        }
    }
    Ok(mail)
}

/// A string is one receiver.
fn receivers(field: &str, value: Dynamic) -> Outcome<Vec<String>> {
    if value.is_unit() {
        return Ok(Vec::new());
    }
    let wrong =
        |value: &Dynamic| wrong_type(&format!("{SEND}: {field}"), "a string or an array of strings", value);
    if value.is_string() {
        return Ok(vec![value.to_string()]);
    }
    let list = match value.flatten().try_cast_result::<Array>() {
        Ok(list) => list,
        Err(value) => return Err(wrong(&value)),
    };
    list.into_iter()
        .map(|item| if item.is_string() { Ok(item.to_string()) } else { Err(wrong(&item)) })
        .collect()
}
