//! Errors that the script API raises. A script catches them as `#{code, message}`.

use rhai::{Dynamic, EvalAltResult, ImmutableString, Map, Position};

use crate::HostError;

/// A raised error.
pub(crate) type Raised = Box<EvalAltResult>;

/// What a function of the script API gives.
pub(crate) type Outcome<T> = Result<T, Raised>;

/// Rhai has 16 bits for a value's tag on 32-bit targets, 32 elsewhere.
#[cfg(target_pointer_width = "32")]
type Tag = i16;
#[cfg(not(target_pointer_width = "32"))]
type Tag = i32;

/// Marks the value of an error whose code is kept, such as that of a host call: if no script catches it, it is the
/// fault's. A script that sets the tag itself only chooses the code of its own failure.
const HOST_TAG: Tag = 0x484f;
/// Marks the value of an error that comes from the script API.
const API_TAG: Tag = 0x4150;

/// Where a caught value came from.
pub(crate) enum Origin {
    /// A host call was refused, or the request is not what was asked of it.
    Host { code: String, message: String },
    /// The API was used wrongly.
    Api { message: String },
    /// The script threw it.
    Script,
}

/// An error of the script API: a wrong argument, or data of a wrong form.
pub(crate) fn invalid(message: impl Into<ImmutableString>) -> Raised {
    raise("invalid", &message.into(), API_TAG)
}

/// A request that is not what the script asks of it: its client's mistake, which is answered 400 unless the script
/// catches it.
pub(crate) fn bad_request(message: impl Into<ImmutableString>) -> Raised {
    raise("bad_request", &message.into(), HOST_TAG)
}

/// A refused host call.
pub(crate) fn refused(error: HostError) -> Raised {
    raise(&error.code, &error.message.into(), HOST_TAG)
}

/// A call that makes no sense while a script is compiled, since its result would be frozen into the image.
pub(crate) fn not_at_build(function: &str) -> Raised {
    let message = format!(
        "{function} is not available while a script is compiled: the top level of a library runs only then"
    );
    raise("not_available_at_build", &message.into(), HOST_TAG)
}

fn raise(code: &str, message: &ImmutableString, tag: Tag) -> Raised {
    let mut map = Map::new();
    map.insert("code".into(), code.into());
    map.insert("message".into(), message.clone().into());
    let mut value = Dynamic::from_map(map);
    value.set_tag(tag);
    EvalAltResult::ErrorRuntime(value, Position::NONE).into()
}

/// Tells what raised `value`.
pub(crate) fn origin(value: &Dynamic) -> Origin {
    let tag = value.tag();
    if tag != HOST_TAG && tag != API_TAG {
        return Origin::Script;
    }
    let Ok(map) = value.as_map_ref() else { return Origin::Script };
    let text = |name: &str| map.get(name).map(ToString::to_string).unwrap_or_default();
    if tag == HOST_TAG {
        Origin::Host { code: text("code"), message: text("message") }
    } else {
        Origin::Api { message: text("message") }
    }
}
