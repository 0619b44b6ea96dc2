//! What arrays have beyond Rhai's functions: `join`. And those of Rhai's that swallow what a closure raises, anew: here
//! the first error ends them, and leaves the array as it was. All others of Rhai's pass errors on.

use std::mem;

use rhai::{Array, Dynamic, Engine, FnPtr, FuncRegistration, NativeCallContext};

use super::{Globals, wrong_type};
use crate::{
    fault::plain_type,
    raise::{Outcome, invalid},
};

pub(super) fn register(engine: &mut Engine) {
    register_change(engine, "sort", |call, array, closure| sort(call, array, closure, "sort"));
    register_change(engine, "sort_by", |call, array, closure| sort(call, array, closure, "sort_by"));
    register_change(engine, "dedup", dedup);
    engine.register_fn("order", |call: NativeCallContext<'_>, array: &mut Array, closure: FnPtr| {
        order(&call, array, &closure, "order")
    });
    engine.register_fn("order_by", |call: NativeCallContext<'_>, array: &mut Array, closure: FnPtr| {
        order(&call, array, &closure, "order_by")
    });
}

pub(super) fn register_globals(globals: &mut Globals<'_>) {
    globals.add("join(list, separator)", |list: &mut Array, separator: Dynamic| join(list, &separator));
}

/// The items as text, as `to_string` gives it, with the separator between them.
fn join(list: &[Dynamic], separator: &Dynamic) -> Outcome<String> {
    if !separator.is_string() && !separator.is_char() {
        return Err(wrong_type("join", "a string between the items", separator));
    }
    let separator = separator.to_string();
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&item.to_string());
    }
    Ok(joined)
}

/// Registers what changes its array, and so cannot be called on a constant.
fn register_change<F>(engine: &mut Engine, name: &str, function: F)
where
    F: Fn(&NativeCallContext<'_>, &mut Array, &FnPtr) -> Outcome<()> + 'static,
{
    let function = move |call: NativeCallContext<'_>, array: &mut Array, closure: FnPtr| -> Outcome<()> {
        function(&call, array, &closure)
    };
    FuncRegistration::new(name).with_purity(false).register_into_engine(engine, function);
}

fn sort(call: &NativeCallContext<'_>, array: &mut Array, closure: &FnPtr, name: &'static str) -> Outcome<()> {
    let order = sorted(array, &Comparator { closure, call, name })?;
    *array = taken(array, &order);
    Ok(())
}

fn order(
    call: &NativeCallContext<'_>,
    array: &[Dynamic],
    closure: &FnPtr,
    name: &'static str,
) -> Outcome<Array> {
    let order = sorted(array, &Comparator { closure, call, name })?;
    Ok(order.into_iter().map(|index| array[index].clone()).collect())
}

/// Removes items for which the closure says that they equal the one before. Any answer but `true` keeps the item.
fn dedup(call: &NativeCallContext<'_>, array: &mut Array, is_same: &FnPtr) -> Outcome<()> {
    let mut kept: Vec<usize> = Vec::with_capacity(array.len());
    for index in 0..array.len() {
        let is_repeated = match kept.last() {
            Some(&last) => {
                let pair = [array[last].clone(), array[index].clone()];
                is_same.call_raw(call, None, pair)?.as_bool().unwrap_or(false)
            }
            None => false,
        };
        if !is_repeated {
            kept.push(index);
        }
    }
    *array = taken(array, &kept);
    Ok(())
}

/// A script's function that compares two items.
struct Comparator<'a> {
    closure: &'a FnPtr,
    call: &'a NativeCallContext<'a>,
    /// The function that was called with it.
    name: &'static str,
}

impl Comparator<'_> {
    /// Whether `second` must come before `first`, which it follows now.
    ///
    /// Where the closure answers with a bool it may mean `<` or `<=`. They differ for equal items only, so that a
    /// `false` is asked once more the other way round: equal items keep their order with either.
    fn is_out_of_order(&self, first: &Dynamic, second: &Dynamic) -> Outcome<bool> {
        let answer = self.compare(first, second)?;
        if let Ok(order) = answer.as_int() {
            return Ok(order > 0);
        }
        match answer.as_bool() {
            Ok(true) => Ok(false),
            Ok(false) => Ok(self.compare(second, first)?.as_bool().unwrap_or(false)),
            Err(found) => Err(invalid(format!(
                "{}: the closure must give an integer (below 0, 0 or above 0) or a bool, not {}",
                self.name,
                plain_type(found)
            ))),
        }
    }

    fn compare(&self, first: &Dynamic, second: &Dynamic) -> Outcome<Dynamic> {
        self.closure.call_raw(self.call, None, [first.clone(), second.clone()])
    }
}

/// The indices of the items in order: a merge sort from the bottom up, stable. The standard library's sort cannot stop
/// at an error, and may panic where a comparator contradicts itself; this one then gives some order.
fn sorted(array: &[Dynamic], comparator: &Comparator<'_>) -> Outcome<Vec<usize>> {
    let mut order: Vec<usize> = (0..array.len()).collect();
    let mut merged = Vec::with_capacity(order.len());
    let mut run = 1;
    while run < order.len() {
        for pair in order.chunks(2 * run) {
            let (first, second) = pair.split_at(run.min(pair.len()));
            merge(&mut merged, first, second, |a, b| comparator.is_out_of_order(&array[a], &array[b]))?;
        }
        mem::swap(&mut order, &mut merged);
        merged.clear();
        run *= 2;
    }
    Ok(order)
}

/// Appends two runs, each in order, as one.
fn merge(
    merged: &mut Vec<usize>,
    mut first: &[usize],
    mut second: &[usize],
    is_out_of_order: impl Fn(usize, usize) -> Outcome<bool>,
) -> Outcome<()> {
    while let ([a, rest_of_first @ ..], [b, rest_of_second @ ..]) = (first, second) {
        if is_out_of_order(*a, *b)? {
            merged.push(*b);
            second = rest_of_second;
        } else {
            merged.push(*a);
            first = rest_of_first;
        }
    }
    merged.extend_from_slice(first);
    merged.extend_from_slice(second);
    Ok(())
}

/// Takes the items at `indices`, each at most once, out of an array.
fn taken(array: &mut Array, indices: &[usize]) -> Array {
    indices.iter().map(|&index| mem::take(&mut array[index])).collect()
}
