//! `log::`, `print` and `debug`.

use std::rc::Rc;

use rhai::{Dynamic, Engine};

use super::{Context, Part};
use crate::{LogLevel, json};

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("log");
    let levels = [
        ("debug(message)", "debug(message, data)", LogLevel::Debug),
        ("info(message)", "info(message, data)", LogLevel::Info),
        ("warn(message)", "warn(message, data)", LogLevel::Warn),
        ("error(message)", "error(message, data)", LogLevel::Error),
    ];
    for (plain, with_data, level) in levels {
        let shared = context.clone();
        part.add(plain, move |message: Dynamic| {
            write(&shared, level, &text(&message));
            Ok(())
        });
        let shared = context.clone();
        part.add(with_data, move |message: Dynamic, data: Dynamic| {
            write(&shared, level, &format!("{} {}", text(&message), text(&data)));
            Ok(())
        });
    }
    part
}

/// Sends `print` and `debug` to the log.
pub(super) fn register_print(engine: &mut Engine, context: &Rc<Context>) {
    let shared = context.clone();
    engine.on_print(move |message| write(&shared, LogLevel::Info, message));
    let shared = context.clone();
    engine.on_debug(move |message, _, _| write(&shared, LogLevel::Debug, message));
}

/// What the top level of a library writes while it is compiled goes nowhere: no invocation has that log.
fn write(context: &Context, level: LogLevel, message: &str) {
    if !context.building.get() {
        context.host.log(level, message);
    }
}

/// Strings as they are, maps and arrays as JSON where they can be.
fn text(value: &Dynamic) -> String {
    if value.is_map() || value.is_array() {
        return json::stringify(value).unwrap_or_else(|_| value.to_string());
    }
    value.to_string()
}
