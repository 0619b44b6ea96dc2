//! Figures that do not depend on the machine. They may only change on purpose.

use picloud_core::Limits;
use picloud_executor::embedded_guest;

use crate::support::{TestApp, body, post};

#[test]
fn a_trivial_invocation_takes_little_fuel() {
    let app = TestApp::new(&[("hello", "\"hello \" + req.json.name")]);
    let completion = app.run("hello", post(r#"{"name":"bob"}"#), Limits::default());
    assert_eq!(body(&completion), "hello bob");
    let fuel = completion.usage.fuel;
    println!("fuel of hello: {fuel}");
    assert!(fuel <= 20_000, "hello took {fuel} units of fuel");
}

#[test]
fn fuel_is_the_same_every_time() {
    let app = TestApp::new(&[("loop", "let x = 0; for i in 0..1000 { x += i; } x")]);
    let run = || app.run("loop", post("{}"), Limits::default()).usage.fuel;
    let first = run();
    assert!((0..20).all(|_| run() == first));
}

#[test]
fn the_component_stays_small() {
    let guest = embedded_guest().expect("cargo xtask guest was run");
    let bytes = guest.code.len() + guest.base.len();
    println!("component: {bytes} bytes");
    assert!(bytes < 3_000_000, "the component has {bytes} bytes");
}
