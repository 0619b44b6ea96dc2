//! `random::`: secure random values from the host.

use std::rc::Rc;

use rhai::Blob;

use super::{Context, Part};
use crate::raise::{Outcome, invalid};

const MAX_BYTES: i64 = 64 << 10;

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("random");
    let shared = context.clone();
    part.add("uuid()", move || uuid(&shared));
    let shared = context.clone();
    part.add("int(min, max)", move |min: i64, max: i64| int(&shared, min, max));
    let shared = context.clone();
    part.add("float()", move || float(&shared));
    let shared = context.clone();
    part.add("bool()", move || Ok(bits(&shared, "random::bool")? & 1 == 1));
    let shared = context.clone();
    part.add("bytes(count)", move |count: i64| bytes(&shared, count));
    part
}

fn bits(context: &Context, function: &str) -> Outcome<u64> {
    let bytes = context.host(function)?.random(8);
    let bytes = bytes.try_into().map_err(|_| invalid("the host gave too few random bytes"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Version 4 of RFC 9562.
fn uuid(context: &Context) -> Outcome<String> {
    let high = bits(context, "random::uuid")?;
    let low = bits(context, "random::uuid")?;
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    Ok(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    ))
}

/// Both ends included, every value equally likely.
fn int(context: &Context, min: i64, max: i64) -> Outcome<i64> {
    if min > max {
        return Err(invalid(format!("random::int: {min} is larger than {max}")));
    }
    let span = max.abs_diff(min);
    let Some(count) = span.checked_add(1) else {
        return Ok(bits(context, "random::int")?.cast_signed());
    };
    // Values above the last whole multiple of `count` would favour small results.
    let accepted = u64::MAX - (u64::MAX % count + 1) % count;
    loop {
        let value = bits(context, "random::int")?;
        if value <= accepted {
            return Ok(min.wrapping_add_unsigned(value % count));
        }
    }
}

/// From 0 up to but not including 1, in steps of 2^-53.
fn float(context: &Context) -> Outcome<f64> {
    Ok((bits(context, "random::float")? >> 11) as f64 / (1_u64 << 53) as f64)
}

fn bytes(context: &Context, count: i64) -> Outcome<Blob> {
    let host = context.host("random::bytes")?;
    match usize::try_from(count) {
        Ok(len) if count <= MAX_BYTES => Ok(host.random(len)),
        _ => Err(invalid(format!("random::bytes: {count} bytes; allowed are 0 to {MAX_BYTES}"))),
    }
}
