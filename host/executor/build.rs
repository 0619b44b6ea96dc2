//! Finds the guest's artifacts, so that the program can carry them.
//!
//! `cargo xtask guest` makes them. Without them the workspace still builds and checks; the executor then says
//! at start what is missing.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=PICLOUD_GUEST_DIR");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let folder = env::var_os("PICLOUD_GUEST_DIR").map_or_else(|| root.join("target/guest"), PathBuf::from);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in ["code.wasm", "base.wasm"] {
        let source = folder.join(name);
        println!("cargo::rerun-if-changed={}", source.display());
        let bytes = fs::read(&source).unwrap_or_default();
        fs::write(out.join(name), bytes).expect("OUT_DIR can be written");
    }
}
